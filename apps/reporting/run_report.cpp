// SPDX-License-Identifier: Apache-2.0
#include "apps/reporting/run_report.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <limits>
#include <set>
#include <sstream>

#include "apps/reporting/evaluation_report.h"
#include "core/config.h"
#include "core/file.h"
#include "core/progress.h"
#include "data/drawing/plot.h"
#include "data/image/image.h"

namespace sextant::apps {
namespace {

namespace fs = std::filesystem;
constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

constexpr const char* kBest = "metrics/mAP50-95(B)";

std::vector<std::string> cells_of(const std::string& line) {
  std::vector<std::string> out(1);
  for (const char c : line)
    if (c == ',')
      out.emplace_back();
    else if (c != '\r')
      out.back() += c;
  return out;
}

// Every value of a config under its path: "solver.lr0" -> "0.02".
void flatten(const Json& json, const std::string& path, std::map<std::string, std::string>& out) {
  if (json.is_object() && !json.empty()) {
    for (const auto& [key, value] : json.items())
      flatten(value, path.empty() ? key : path + "." + key, out);
  } else {
    out[path] = short_json(json);
  }
}

std::string shown(double v, const char* format = "{:.4f}") {
  return std::isfinite(v) ? fmt::format(fmt::runtime(format), v) : "-";
}

// The table of a comparison: a header and a row for each run.
struct Table {
  std::vector<std::string> header;
  std::vector<std::vector<std::string>> rows;
};

Table results_table(const std::vector<RunFiles>& runs) {
  Table t{{"run", "epochs", "best", "mAP50-95", "mAP50", "precision", "recall", "loss", "val loss",
           "img/s", "training"},
          {}};
  for (const RunFiles& r : runs) {
    const int64_t best = r.best_row();
    const auto epochs = r.results.find("epoch");
    const int64_t last = epochs == r.results.end() ? -1 : std::ssize(epochs->second) - 1;
    const double seconds = r.value("time", last);
    t.rows.push_back(
        {r.name, shown(r.value("epoch", last), "{:.0f}"), shown(r.value("epoch", best), "{:.0f}"),
         shown(r.value(kBest, best)), shown(r.value("metrics/mAP50(B)", best)),
         shown(r.value("metrics/precision(B)", best)), shown(r.value("metrics/recall(B)", best)),
         shown(r.value("train/loss", last), "{:.3f}"), shown(r.value("val/loss", best), "{:.3f}"),
         shown(r.value("images_per_second", last), "{:.1f}"),
         std::isfinite(seconds) ? format_duration(seconds) : "-"});
  }
  return t;
}

Table config_differences(const std::vector<RunFiles>& runs) {
  Table t{{"key"}, {}};
  std::vector<std::map<std::string, std::string>> configs;
  std::set<std::string> keys;
  for (const RunFiles& r : runs) {
    t.header.push_back(r.name);
    flatten(r.config, "", configs.emplace_back());
    for (const auto& [key, value] : configs.back()) keys.insert(key);
  }
  for (const auto& key : keys) {
    std::vector<std::string> row{key};
    bool differs = false;
    for (const auto& config : configs) {
      const auto found = config.find(key);
      row.push_back(found == config.end() ? "-" : found->second);
      differs = differs || row.back() != row[1];
    }
    if (differs) t.rows.push_back(std::move(row));
  }
  return t;
}

// mAP50-95 of each class and run, by the names of the classes.
Table class_table(const std::vector<RunFiles>& runs) {
  Table t{{"mAP50-95 of the class"}, {}};
  std::vector<std::string> order;
  std::map<std::string, std::map<size_t, double>> values;
  for (size_t i = 0; i < runs.size(); ++i) {
    t.header.push_back(runs[i].name);
    const Json& e = runs[i].evaluation;
    if (!e.is_object() || !e.contains("classes") || !e.at("classes").is_array()) continue;
    for (const Json& c : e.at("classes")) {
      std::string name;
      double map = kNone;
      if (!c.is_object() || !c.contains("name") || !c.contains("map50_95")) continue;
      read_value(c.at("name"), name);
      read_value(c.at("map50_95"), map);
      if (!values.contains(name)) order.push_back(name);
      values[name][i] = map;
    }
  }
  for (const auto& name : order) {
    std::vector<std::string> row{name};
    for (size_t i = 0; i < runs.size(); ++i)
      row.push_back(values[name].contains(i) ? shown(values[name][i]) : "-");
    t.rows.push_back(std::move(row));
  }
  return t;
}

std::string text_of(const Table& t) {
  std::vector<size_t> widths(t.header.size());
  const auto widen = [&](const std::vector<std::string>& row) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  };
  widen(t.header);
  for (const auto& row : t.rows) widen(row);
  std::string text;
  const auto line = [&](const std::vector<std::string>& row) {
    for (size_t i = 0; i < row.size(); ++i)
      text += i == 0 ? fmt::format("{:<{}}", row[i], widths[i])
                     : fmt::format("  {:>{}}", row[i], widths[i]);
    text += '\n';
  };
  line(t.header);
  for (const auto& row : t.rows) line(row);
  return text;
}

HtmlBody::Figure common_chart(const std::vector<RunFiles>& runs, const std::string& column,
                              const std::string& title) {
  data::PlotSpec spec;
  spec.title = title;
  spec.x_label = "epoch";
  spec.y_label = column;
  spec.whole_x = true;
  spec.y_min = 0;
  for (const RunFiles& r : runs) {
    data::Series s{.name = r.name, .x = {}, .y = {}};
    const auto epochs = r.results.find("epoch"), values = r.results.find(column);
    if (epochs != r.results.end() && values != r.results.end())
      for (size_t i = 0; i < values->second.size(); ++i)
        if (std::isfinite(values->second[i])) {
          s.x.push_back(epochs->second[i]);
          s.y.push_back(values->second[i]);
        }
    spec.series.push_back(std::move(s));
  }
  return {"image/png", data::encode_png(data::draw_line_plot(spec), column), title, false};
}

void add_facts(HtmlBody& body, const RunFiles& r) {
  const int64_t best = r.best_row();
  const int64_t last = std::ssize(r.results.at("epoch")) - 1;
  const double seconds = r.value("time", last);
  std::vector<HtmlBody::Fact> facts = {
      {"mAP50-95", shown(r.value(kBest, best))},
      {"mAP50", shown(r.value("metrics/mAP50(B)", best))},
      {"precision", shown(r.value("metrics/precision(B)", best), "{:.3f}")},
      {"recall", shown(r.value("metrics/recall(B)", best), "{:.3f}")}};
  if (r.evaluation.is_object() && r.evaluation.contains("best_f1")) {
    double confidence = kNone;
    const Json& f1 = r.evaluation.at("best_f1");
    if (f1.is_object() && f1.contains("confidence")) read_value(f1.at("confidence"), confidence);
    facts.push_back({"confidence of the best F1", shown(confidence, "{:.3f}")});
  }
  facts.push_back({"best epoch", shown(r.value("epoch", best), "{:.0f}")});
  facts.push_back({"epochs trained", shown(r.value("epoch", last), "{:.0f}")});
  if (std::isfinite(seconds)) facts.push_back({"of training", format_duration(seconds)});
  facts.push_back({"images per second", shown(r.value("images_per_second", last), "{:.1f}")});
  body.facts(facts);
}

HtmlBody run_body(const RunFiles& r) {
  HtmlBody body;
  add_facts(body, r);
  body.heading("Training");
  std::vector<HtmlBody::Figure> curves;
  for (const auto& [name, caption] :
       {std::pair{"loss.png", "Losses by epoch, weighted as they are trained on."},
        std::pair{"map.png", "The validation split by epoch."}})
    if (file_exists(r.folder / name))
      curves.push_back({"image/png", read_bytes(r.folder / name), caption, false});
  body.figures(curves);
  body.append(evaluation_html(r.folder));
  body.append(labels_html(r.folder));
  const fs::path batch = r.folder / "train_batch.png";
  if (file_exists(batch)) {
    body.heading("What the network sees");
    body.figures({{"image/jpeg", data::encode_jpeg(data::load_image(batch), batch.string(), 85),
                   "The first training batch, augmented.", false}});
  }
  body.folded("Config as resolved", json_text(r.config, 2));
  return body;
}

}  // namespace

ResultColumns read_results(const fs::path& file) {
  std::istringstream lines(read_text(file));
  std::string line;
  check(static_cast<bool>(std::getline(lines, line)), "{}: is empty", file.string());
  const std::vector<std::string> names = cells_of(line);
  ResultColumns out;
  for (const auto& name : names) out[name];
  for (int64_t number = 2; std::getline(lines, line); ++number) {
    if (line.empty()) continue;
    const std::vector<std::string> cells = cells_of(line);
    check(cells.size() == names.size(), "{}:{}: has {} cells, the header has {}", file.string(),
          number, cells.size(), names.size());
    for (size_t i = 0; i < cells.size(); ++i) {
      double v = kNone;
      const char* end = cells[i].data() + cells[i].size();
      const bool read = std::from_chars(cells[i].data(), end, v).ptr == end;
      check(cells[i].empty() || read, "{}:{}: '{}' is not a number", file.string(), number,
            cells[i]);
      out[names[i]].push_back(v);
    }
  }
  return out;
}

int64_t RunFiles::best_row() const {
  const auto found = results.find(kBest);
  if (found == results.end()) return -1;
  int64_t best = -1;
  for (int64_t i = 0; i < std::ssize(found->second); ++i)
    if (const double v = value(kBest, i); std::isfinite(v) && (best < 0 || v > value(kBest, best)))
      best = i;
  return best;
}

double RunFiles::value(const std::string& column, int64_t row) const {
  const auto found = results.find(column);
  if (found == results.end() || row < 0 || row >= std::ssize(found->second)) return kNone;
  return found->second[static_cast<size_t>(row)];
}

RunFiles read_run(const fs::path& folder) {
  const fs::path results = folder / "results.csv";
  check(file_exists(results), "{}: holds no run: it has no results.csv", folder.string());
  RunFiles r;
  r.folder = folder;
  fs::path name = fs::absolute(folder).lexically_normal();
  if (name.filename().empty()) name = name.parent_path();
  r.name = name.filename().string();
  r.results = read_results(results);
  check(r.results.contains("epoch") && r.results.contains(kBest),
        "{}: has no columns 'epoch' and '{}'; an earlier version of Sextant wrote it, resuming the "
        "run writes it anew",
        results.string(), kBest);
  if (file_exists(folder / "config.json")) r.config = load_json(folder / "config.json");
  if (file_exists(folder / "evaluation.json")) r.evaluation = load_json(folder / "evaluation.json");
  return r;
}

void write_run_report(const fs::path& folder) {
  const RunFiles r = read_run(folder);
  write_atomically(folder / "report.html", html_page(r.name, run_body(r)));
}

std::string comparison_text(const std::vector<RunFiles>& runs) {
  std::string text = text_of(results_table(runs));
  const Table differences = config_differences(runs);
  if (runs.size() > 1 && !differences.rows.empty()) text += "\n" + text_of(differences);
  return text;
}

std::string comparison_page(const std::vector<RunFiles>& runs) {
  HtmlBody body;
  body.heading("Results");
  body.paragraph(
      "Of the epoch with the highest mAP50-95, except for the training loss and images per second, "
      "which are the last epoch's.");
  const Table results = results_table(runs), differences = config_differences(runs),
              classes = class_table(runs);
  body.table(results.header, results.rows);
  body.heading("Curves");
  body.figures({common_chart(runs, kBest, "mAP50-95 by epoch"),
                common_chart(runs, "metrics/mAP50(B)", "mAP50 by epoch"),
                common_chart(runs, "train/loss", "Training loss by epoch"),
                common_chart(runs, "val/loss", "Validation loss by epoch")});
  if (!differences.rows.empty()) {
    body.heading("Configs");
    body.paragraph("Keys in which they differ.");
    body.table(differences.header, differences.rows);
  }
  if (!classes.rows.empty()) {
    body.heading("Classes");
    body.table(classes.header, classes.rows);
  }
  body.heading("Each run");
  for (const RunFiles& r : runs) body.folded(r.name, run_body(r));
  std::string title = "Runs";
  for (size_t i = 0; i < runs.size(); ++i) title += (i == 0 ? ": " : ", ") + runs[i].name;
  return html_page(title, body);
}

}  // namespace sextant::apps
