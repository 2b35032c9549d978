// SPDX-License-Identifier: Apache-2.0
#include "apps/reporting/pictures.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "apps/reporting/label_statistics.h"
#include "apps/reporting/sheet.h"
#include "core/error.h"
#include "data/drawing/plot.h"
#include "data/metrics/image_score.h"

namespace sextant::apps {
namespace {

constexpr data::Color kThin{196, 201, 209}, kBold{31, 99, 196};
constexpr size_t kMostNamed = 10;

std::string name_at(const std::vector<std::string>& names, int class_id) {
  const auto i = static_cast<size_t>(class_id);
  return i < names.size() ? names[i] : std::to_string(class_id);
}

using Curve = std::vector<double>;

// One line for each class, and their mean on top.
data::PlotSpec class_curves(const deploy::EvalResult& r, const std::vector<std::string>& names,
                            const Curve& x, const std::vector<Curve>& curves,
                            const std::vector<std::string>& notes, const std::string& mean_note) {
  data::PlotSpec spec;
  spec.x_min = spec.y_min = 0;
  spec.x_max = spec.y_max = 1;
  const bool named = curves.size() <= kMostNamed;
  Curve mean(x.size());
  for (size_t c = 0; c < curves.size(); ++c) {
    data::Series s;
    s.x = x;
    s.y = curves[c];
    s.weight = 0.6;
    if (named) s.name = name_at(names, r.curves.classes[c].class_id) + notes[c];
    // The first colour is the mean's.
    if (!named) s.color = kThin;
    for (size_t k = 0; k < x.size(); ++k)
      mean[k] += curves[c][k] / static_cast<double>(curves.size());
    spec.series.push_back(std::move(s));
  }
  data::Series all{.name = "all classes" + mean_note, .x = x, .y = mean};
  all.weight = 1.6;
  all.color = kBold;
  spec.series.insert(spec.series.begin(), {data::Series{.name = all.name, .x = {}, .y = {}}});
  spec.series.front().color = kBold;
  all.name.clear();
  spec.series.push_back(std::move(all));  // drawn last, listed first
  return spec;
}

data::PlotSpec over_confidence(const std::string& file, const deploy::EvalResult& r,
                               const std::vector<std::string>& names) {
  constexpr size_t kPoints = data::PrecisionRecall::kPoints;
  Curve x(kPoints);
  for (size_t k = 0; k < kPoints; ++k) x[k] = static_cast<double>(k) / (kPoints - 1);
  std::vector<Curve> curves;
  std::vector<std::string> notes;
  const auto best_note = [&](double v) {
    return fmt::format(" {:.2f} at {:.3f}", v, r.curves.confidence);
  };
  double mean = 0;
  for (const auto& c : r.curves.classes) {
    curves.push_back(file == "f1.png" ? c.f1 : file == "recall.png" ? c.recall : c.precision);
    notes.push_back(fmt::format(" {:.2f}", curves.back()[r.curves.best]));
    mean += curves.back()[r.curves.best] / static_cast<double>(r.curves.classes.size());
  }
  data::PlotSpec spec = class_curves(r, names, x, curves, notes, best_note(mean));
  const std::string what = file == "f1.png" ? "F1" : file == "recall.png" ? "Recall" : "Precision";
  spec.title = what + " over confidence";
  spec.x_label = "confidence";
  spec.y_label = what + " at IoU 0.5";
  spec.marks = {{r.curves.confidence, mean, "best F1"}};
  return spec;
}

// The highest precision at a recall of at least i / 100.
Curve precision_at_recall(const data::PrecisionRecall::Class& c) {
  Curve out(101);
  for (size_t k = 0; k < c.recall.size(); ++k) {
    const auto at =
        std::min<size_t>(100, static_cast<size_t>(std::floor(c.recall[k] * 100 + 1e-9)));
    out[at] = std::max(out[at], c.recall[k] > 0 ? c.precision[k] : 0.0);
  }
  for (size_t i = 100; i-- > 0;) out[i] = std::max(out[i], out[i + 1]);
  return out;
}

data::PlotSpec precision_over_recall(const deploy::EvalResult& r,
                                     const std::vector<std::string>& names) {
  Curve x(101);
  for (size_t k = 0; k <= 100; ++k) x[k] = static_cast<double>(k) / 100;
  std::vector<Curve> curves;
  std::vector<std::string> notes;
  for (const auto& c : r.curves.classes) {
    curves.push_back(precision_at_recall(c));
    notes.push_back(
        fmt::format(" {:.3f}", r.metrics.per_class[static_cast<size_t>(c.class_id)].ap50));
  }
  data::PlotSpec spec =
      class_curves(r, names, x, curves, notes, fmt::format(" {:.3f} mAP50", r.metrics.ap50));
  spec.title = "Precision over recall";
  spec.x_label = "recall";
  spec.y_label = "precision at IoU 0.5";
  return spec;
}

data::HeatSpec confusion(const deploy::EvalResult& r, const std::vector<std::string>& names,
                         bool shares) {
  const auto n = static_cast<int64_t>(r.confusion.size);
  data::HeatSpec spec;
  spec.title = shares ? "Confusion: share of each true class" : "Confusion: boxes";
  spec.x_label = "true class";
  spec.y_label = "predicted class";
  spec.columns = spec.rows = n;
  for (int64_t i = 0; i + 1 < n; ++i)
    spec.column_names.push_back(name_at(names, static_cast<int>(i)));
  spec.column_names.emplace_back("background");
  spec.row_names = spec.column_names;
  spec.values.assign(r.confusion.counts.begin(), r.confusion.counts.end());
  spec.digits = shares ? 2 : 0;
  for (int64_t c = 0; shares && c < n; ++c) {
    double sum = 0;
    for (int64_t row = 0; row < n; ++row) sum += spec.values[static_cast<size_t>(row * n + c)];
    for (int64_t row = 0; row < n; ++row)
      spec.values[static_cast<size_t>(row * n + c)] /= std::max(sum, 1.0);
  }
  spec.width = n > 24 ? 1500 : 900;
  spec.height = n > 24 ? 1400 : 700;
  return spec;
}

// Indices into result.images.
std::vector<size_t> chosen_images(const std::string& file, const deploy::EvalResult& r,
                                  const std::vector<data::ImageScore>& scores) {
  const size_t most = file == "val.png" ? 8 : 6;
  std::vector<size_t> all;
  for (size_t i = 0; i < r.images.size(); ++i)
    if (file == "val.png" || !r.images[i].truths.empty() || scores[i].wrongs > 0) all.push_back(i);
  if (file == "val.png") {
    std::vector<size_t> out;
    for (size_t k = 0; k < std::min(most, all.size()); ++k)
      out.push_back(all[k * all.size() / std::min(most, all.size())]);
    return out;
  }
  const double sign = file == "worst.png" ? 1 : -1;
  // Of equal ones those with more boxes.
  std::ranges::stable_sort(all, [&](size_t a, size_t b) {
    const double x = sign * scores[a].f1(), y = sign * scores[b].f1();
    const auto size = [&](size_t i) {
      return scores[i].rights + scores[i].wrongs + scores[i].missed;
    };
    return x != y ? x < y : size(a) > size(b);
  });
  if (all.size() > most) all.resize(most);
  return all;
}

data::Rect corners(const data::CocoBox& b) { return {b.x, b.y, b.x + b.w, b.y + b.h}; }

}  // namespace

const std::vector<PictureText>& evaluation_pictures() {
  static const std::vector<PictureText> list = {
      {"f1.png", "F1 over the confidence. The mark is the threshold with the highest mean."},
      {"pr.png", "Precision over recall; the area below is the class's mAP50."},
      {"precision.png", "Precision over the confidence."},
      {"recall.png", "Recall over the confidence."},
      {"confusion.png",
       "Boxes at a confidence above 0.25 and an IoU above 0.45. The last row are boxes that were "
       "overlooked, the last column detections where nothing is labelled (without those of images "
       "in "
       "which nothing matched)."},
      {"confusion_shares.png", "The same as shares of each true class."},
      {"val.png",
       "Images spread over the split: labels on the left, detections on the right, at the "
       "confidence of the best F1.",
       true},
      {"worst.png",
       "The images with the lowest F1. Right: found boxes are green, wrong detections red, "
       "overlooked labels yellow.",
       true},
      {"best.png", "The images with the highest F1.", true},
  };
  return list;
}

data::Image draw_evaluation_chart(const std::string& file, const deploy::EvalResult& result,
                                  const std::vector<std::string>& names) {
  if (file == "confusion.png") return data::draw_heat_plot(confusion(result, names, false));
  if (file == "confusion_shares.png") return data::draw_heat_plot(confusion(result, names, true));
  if (file == "pr.png") return data::draw_line_plot(precision_over_recall(result, names));
  check(file == "f1.png" || file == "precision.png" || file == "recall.png",
        "{}: is not a chart of an evaluation", file);
  return data::draw_line_plot(over_confidence(file, result, names));
}

data::Image draw_evaluation_photographs(const std::string& file, const deploy::EvalResult& result,
                                        const data::Dataset& dataset) {
  constexpr data::Color kRight{40, 170, 95}, kWrong{222, 48, 60}, kMissed{240, 176, 0};
  const double confidence = result.curves.confidence;
  std::vector<data::ImageScore> scores;
  for (const auto& image : result.images) scores.push_back(data::score_image(image, confidence));
  const bool judged = file != "val.png";
  std::vector<Tile> tiles;
  for (const size_t i : chosen_images(file, result, scores)) {
    const data::ImageEval& e = result.images[i];
    const data::ImageScore& s = scores[i];
    const auto pixels = data::load_sample(dataset, result.samples[i]);
    if (!pixels) continue;
    const auto& path = dataset.samples[static_cast<size_t>(result.samples[i])].image;
    Tile labels{*pixels, path.filename().string(), {}}, found{*pixels, {}, {}};
    for (const auto& t : e.truths)
      labels.boxes.push_back({corners(t.box), t.class_id, name_at(dataset.names, t.class_id)});
    for (size_t k = 0; k < e.detections.size(); ++k) {
      if (!s.shown[k]) continue;
      const auto& d = e.detections[k];
      data::LabelledBox box{corners(d.box), d.class_id, name_at(dataset.names, d.class_id),
                            d.score};
      if (judged) box.color = s.right[k] ? kRight : kWrong;
      found.boxes.push_back(std::move(box));
    }
    for (size_t t = 0; judged && t < e.truths.size(); ++t)
      if (!s.found[t])
        found.boxes.push_back({corners(e.truths[t].box), e.truths[t].class_id,
                               name_at(dataset.names, e.truths[t].class_id), -1, kMissed});
    found.caption = fmt::format("F1 {:.2f}: {} found, {} wrong, {} overlooked", s.f1(), s.rights,
                                s.wrongs, s.missed);
    tiles.push_back(std::move(labels));
    tiles.push_back(std::move(found));
  }
  return draw_sheet(tiles, 4);
}

data::Image draw_labels(const data::Dataset& dataset) {
  const LabelStatistics s = label_statistics(dataset);
  constexpr int kWidth = 720, kHeight = 480;
  data::BarSpec classes;
  classes.title = "Boxes of each class";
  classes.y_label = "boxes";
  classes.whole_y = true;
  classes.series = {{"", {}, {}}};
  for (size_t c = 0; c < s.classes.size(); ++c) {
    classes.groups.push_back(s.classes[c].name);
    classes.series[0].y.push_back(static_cast<double>(s.classes[c].boxes));
  }
  data::BarSpec counts;
  counts.title = "Boxes of each image";
  counts.y_label = "images";
  counts.x_label = "boxes";
  counts.whole_y = true;
  counts.series = {{"", {}, {}}};
  for (const auto& bin : s.per_image) {
    counts.groups.push_back(bin.name);
    counts.series[0].y.push_back(static_cast<double>(bin.images));
  }
  data::HeatSpec places;
  places.title = "Centres of the boxes";
  places.x_label = "share of the width";
  places.y_label = "share of the height";
  places.columns = places.rows = LabelStatistics::kCells;
  places.values = s.centres;
  data::HeatSpec sizes;
  sizes.title = "Sizes of the boxes";
  sizes.x_label = "width, share of the image";
  sizes.y_label = "height, share of the image";
  sizes.columns = sizes.rows = LabelStatistics::kCells;
  sizes.values = s.sizes;
  sizes.x_high = sizes.y_high = s.largest;
  sizes.upwards = true;
  for (auto* spec : {&classes, &counts}) spec->width = kWidth, spec->height = kHeight;
  for (auto* spec : {&places, &sizes}) spec->width = kWidth, spec->height = kHeight;
  return side_by_side({data::draw_bar_plot(classes), data::draw_bar_plot(counts),
                       data::draw_heat_plot(places), data::draw_heat_plot(sizes)},
                      2);
}

}  // namespace sextant::apps
