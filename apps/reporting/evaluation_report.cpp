// SPDX-License-Identifier: Apache-2.0
#include "apps/reporting/evaluation_report.h"

#include <fmt/format.h>

#include "apps/reporting/pictures.h"
#include "core/config.h"
#include "core/file.h"

namespace sextant::apps {
namespace {

namespace fs = std::filesystem;

Json class_figures(const deploy::EvalResult& r, const std::vector<std::string>& names) {
  Json list = Json::array();
  for (const auto& c : r.curves.classes) {
    const auto id = static_cast<size_t>(c.class_id);
    const auto& m = r.metrics.per_class[id];
    list.push_back({{"name", id < names.size() ? names[id] : std::to_string(id)},
                    {"truths", m.truths},
                    {"precision", c.precision[r.curves.best]},
                    {"recall", c.recall[r.curves.best]},
                    {"f1", c.f1[r.curves.best]},
                    {"map50", m.ap50},
                    {"map50_95", m.ap}});
  }
  return list;
}

HtmlBody::Figure figure_of(const fs::path& file, const PictureText& text) {
  if (!text.photograph) return {"image/png", read_bytes(file), text.caption, false};
  constexpr int kQuality = 88;
  return {"image/jpeg", data::encode_jpeg(data::load_image(file), file.string(), kQuality),
          text.caption, true};
}

double number_of(const Json& j, const char* key) {
  double v = -1;
  if (j.contains(key)) read_value(j.at(key), v);
  return v;
}

}  // namespace

std::string figure_text(double v) { return v < 0 ? "-" : fmt::format("{:.4f}", v); }

void write_evaluation(const fs::path& folder, const deploy::EvalResult& result,
                      const data::Dataset& dataset, const Json& more) {
  for (const PictureText& p : evaluation_pictures()) {
    const data::Image picture = p.photograph ? draw_evaluation_photographs(p.file, result, dataset)
                                             : draw_evaluation_chart(p.file, result, dataset.names);
    if (!picture.empty()) data::save_png(folder / p.file, picture);
  }
  Json j = result.json(dataset.names);
  j["names"] = dataset.names;
  j["classes"] = class_figures(result, dataset.names);
  j.update(more);
  write_atomically(folder / "evaluation.json", json_text(j, 2) + "\n");
}

HtmlBody evaluation_html(const fs::path& folder) {
  HtmlBody body;
  const fs::path file = folder / "evaluation.json";
  if (!file_exists(file)) return body;
  const Json j = load_json(file);
  std::vector<std::vector<std::string>> rows;
  const auto row = [&](const Json& c, const std::string& name, double truths) {
    rows.push_back({name, fmt::format("{:.0f}", truths), figure_text(number_of(c, "precision")),
                    figure_text(number_of(c, "recall")), figure_text(number_of(c, "f1")),
                    figure_text(number_of(c, "map50")), figure_text(number_of(c, "map50_95"))});
  };
  const Json none = Json::array();
  const Json& classes =
      j.contains("classes") && j.at("classes").is_array() ? j.at("classes") : none;
  double boxes = 0;
  for (const Json& c : classes) boxes += number_of(c, "truths");
  Json all = j.contains("best_f1") ? j.at("best_f1") : Json::object();
  all["map50"] = number_of(j, "map50");
  all["map50_95"] = number_of(j, "map50_95");
  row(all, "all", boxes);
  for (const Json& c : classes) {
    std::string name;
    if (c.contains("name")) read_value(c.at("name"), name);
    row(c, name, number_of(c, "truths"));
  }
  body.heading("Classes");
  body.paragraph(
      fmt::format("Precision, recall and F1 at confidence {:.3f}, where the mean F1 is highest, "
                  "and IoU 0.5. mAP "
                  "is COCO's.",
                  number_of(all, "confidence")));
  body.table({"class", "boxes", "precision", "recall", "F1", "mAP50", "mAP50-95"}, rows);
  std::vector<HtmlBody::Figure> charts, photographs;
  for (const PictureText& p : evaluation_pictures())
    if (file_exists(folder / p.file))
      (p.photograph ? photographs : charts).push_back(figure_of(folder / p.file, p));
  body.heading("Curves and confusion");
  body.figures(charts);
  body.heading("Images");
  body.figures(photographs);
  return body;
}

HtmlBody labels_html(const fs::path& folder) {
  HtmlBody body;
  const fs::path file = folder / kLabelsPicture.file;
  if (!file_exists(file)) return body;
  body.heading("Labels");
  HtmlBody::Figure figure = figure_of(file, kLabelsPicture);
  figure.wide = true;
  body.figures({figure});
  return body;
}

}  // namespace sextant::apps
