// SPDX-License-Identifier: Apache-2.0
#include "apps/training/run_record.h"

#include <fmt/format.h>

#include <chrono>
#include <fstream>

#include "apps/reporting/evaluation_report.h"
#include "apps/reporting/pictures.h"
#include "apps/reporting/run_report.h"
#include "apps/training/event_file.h"
#include "core/file.h"
#include "data/drawing/plot.h"

namespace sextant::apps {
namespace {

namespace fs = std::filesystem;

struct Column {
  const char* name;
  int digits;
  double (*value)(const EpochRow&);  // negative: not measured, an empty cell
};

// Of what only trained epochs have.
double trained(const EpochRow& r, double v) { return r.epoch > 0 ? v : -1; }

const std::vector<Column>& columns() {
  using R = const EpochRow&;
  static const std::vector<Column> list = {
      {"train/box_loss", 6, [](R r) { return trained(r, r.loss_iou); }},
      {"train/cls_loss", 6, [](R r) { return trained(r, r.loss_cls); }},
      {"train/dfl_loss", 6, [](R r) { return trained(r, r.loss_dfl); }},
      {"metrics/precision(B)", 5, [](R r) { return r.precision; }},
      {"metrics/recall(B)", 5, [](R r) { return r.recall; }},
      {"metrics/mAP50(B)", 5, [](R r) { return r.map50; }},
      {"metrics/mAP50-95(B)", 5, [](R r) { return r.map50_95; }},
      {"val/box_loss", 6, [](R r) { return r.val_iou; }},
      {"val/cls_loss", 6, [](R r) { return r.val_cls; }},
      {"val/dfl_loss", 6, [](R r) { return r.val_dfl; }},
      {"lr/pg0", 8, [](R r) { return trained(r, r.lr_bias); }},
      {"lr/pg1", 8, [](R r) { return trained(r, r.lr); }},
      {"lr/pg2", 8, [](R r) { return trained(r, r.lr_norm); }},
      {"train/obj_loss", 6, [](R r) { return trained(r, r.loss_obj); }},
      {"train/cwd_loss", 6, [](R r) { return trained(r, r.loss_cwd); }},
      {"train/loss", 6, [](R r) { return trained(r, r.loss()); }},
      {"val/obj_loss", 6, [](R r) { return r.val_obj; }},
      {"val/loss", 6, [](R r) { return r.val_loss(); }},
      {"seconds", 2, [](R r) { return trained(r, r.seconds); }},
      {"images_per_second", 2, [](R r) { return r.images > 0 ? r.images_per_second() : -1; }},
  };
  return list;
}

std::string log_line(const EpochRow& row, double time) {
  Json j = {{"epoch", row.epoch}, {"time", time}};
  for (const Column& c : columns())
    if (const double v = c.value(row); v >= 0) j[c.name] = v;
  return json_text(j) + "\n";
}

std::string row_event(const EpochRow& row, double wall_time) {
  std::vector<std::pair<std::string, double>> scalars;
  for (const Column& c : columns())
    if (const double v = c.value(row); v >= 0) scalars.emplace_back(c.name, v);
  return scalar_event(wall_time, row.epoch, scalars);
}

void append(const fs::path& file, const std::string& bytes) {
  std::ofstream out(file, std::ios::binary | std::ios::app);
  out << bytes << std::flush;
  check(out.good(), "{}: cannot be written", file.string());
}

}  // namespace

std::string results_text(const std::vector<EpochRow>& rows) {
  std::string text = "epoch,time";
  for (const Column& c : columns()) text += fmt::format(",{}", c.name);
  text += '\n';
  double time = 0;
  for (const EpochRow& r : rows) {
    text += fmt::format("{},{:.2f}", r.epoch, time += r.seconds);
    for (const Column& c : columns()) {
      const double v = c.value(r);
      text += v < 0 ? "," : fmt::format(",{:.{}f}", v, c.digits);
    }
    text += '\n';
  }
  return text;
}

void RunRecord::keep_best(const deploy::EvalResult& result, const data::Dataset& val,
                          int64_t epoch) const {
  write_evaluation(folder_.path(), result, val,
                   {{"epoch", epoch}, {"data", val.path}, {"split", val.split}});
}

void RunRecord::write(const std::vector<EpochRow>& rows) {
  write_atomically(folder_.results(), results_text(rows));
  write_logs(rows);
  write_curves(folder_.path(), rows);
  if (rows.empty() || rows.back().map50_95 < 0) return;
  const fs::path labels = folder_.path() / kLabelsPicture.file;
  if (!file_exists(labels)) data::save_png(labels, draw_labels(train_));
  write_run_report(folder_.path());
}

void RunRecord::write_logs(const std::vector<EpochRow>& rows) {
  using Clock = std::chrono::system_clock;
  const double now = std::chrono::duration<double>(Clock::now().time_since_epoch()).count();
  const fs::path log = folder_.path() / "log.jsonl",
                 events = folder_.path() / "events.out.tfevents.sextant";
  double time = 0, total = 0;
  for (const EpochRow& r : rows) total += r.seconds;
  std::string lines, records;
  if (logged_ == 0) records = version_event(now - total);
  for (size_t i = 0; i < rows.size(); ++i) {
    time += rows[i].seconds;
    if (i < logged_) continue;
    lines += log_line(rows[i], time);
    records += row_event(rows[i], now - total + time);
  }
  if (logged_ == 0) {
    write_atomically(log, lines);
    write_atomically(events, records);
  } else if (!lines.empty()) {
    append(log, lines);
    append(events, records);
  }
  logged_ = rows.size();
}

void write_curves(const fs::path& folder, const std::vector<EpochRow>& rows) {
  data::PlotSpec loss, map;
  loss.title = "Loss";
  loss.y_label = "mean loss of the epoch";
  loss.series = {{"training", {}, {}}, {"box", {}, {}}, {"class", {}, {}}, {"validation", {}, {}}};
  map.title = "Validation";
  map.y_label = "mAP, precision and recall at the best F1";
  map.series = {{"mAP50", {}, {}}, {"mAP50-95", {}, {}}, {"precision", {}, {}}, {"recall", {}, {}}};
  loss.x_label = map.x_label = "epoch";
  loss.whole_x = map.whole_x = true;
  const auto add = [](data::Series& s, int64_t epoch, double v) {
    if (v < 0) return;
    s.x.push_back(static_cast<double>(epoch));
    s.y.push_back(v);
  };
  for (const auto& r : rows) {
    add(loss.series[0], r.epoch, trained(r, r.loss()));
    add(loss.series[1], r.epoch, trained(r, r.loss_iou));
    add(loss.series[2], r.epoch, trained(r, r.loss_cls));
    add(loss.series[3], r.epoch, r.val_loss());
    add(map.series[0], r.epoch, r.map50);
    add(map.series[1], r.epoch, r.map50_95);
    add(map.series[2], r.epoch, r.precision);
    add(map.series[3], r.epoch, r.recall);
  }
  for (auto* spec : {&loss, &map})
    std::erase_if(spec->series, [](const data::Series& s) { return s.x.empty(); });
  map.y_min = loss.y_min = 0.0;
  if (!loss.series.empty()) data::save_line_plot(folder / "loss.png", loss);
  if (!map.series.empty()) data::save_line_plot(folder / "map.png", map);
}

}  // namespace sextant::apps
