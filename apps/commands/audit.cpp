// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>

#include "apps/cli/common_options.h"
#include "apps/commands/commands.h"
#include "apps/model_files/checkpoint.h"
#include "apps/reporting/html.h"
#include "core/file.h"
#include "data/drawing/draw.h"
#include "data/image/letterbox.h"
#include "data/metrics/label_faults.h"
#include "deploy/detect/evaluation.h"

namespace sextant::apps {
namespace {

struct Options {
  std::string model, data, split = "train", out, json;
  ImageSize image_size;
  std::optional<deploy::Precision> precision;
  deploy::DeviceChoice device = deploy::DeviceChoice::kAuto;
  int64_t top = 200;
};

struct Audit {
  const data::Dataset& dataset;
  const deploy::EvalResult& result;

  const data::Sample& sample(const data::LabelFault& f) const {
    return dataset.samples[static_cast<size_t>(result.samples[f.image])];
  }
  const data::ImageEval& image(const data::LabelFault& f) const { return result.images[f.image]; }
  std::string class_at(int id) const {
    return static_cast<size_t>(id) < dataset.names.size() ? dataset.names[static_cast<size_t>(id)]
                                                          : std::to_string(id);
  }
  std::string labelled(const data::LabelFault& f) const {
    return class_at(image(f).truths[static_cast<size_t>(f.truth)].class_id);
  }
  const data::Detection& detection(const data::LabelFault& f) const {
    return image(f).detections[static_cast<size_t>(f.detection)];
  }

  // "labels/train/a.txt:3"; the image where it has no label file.
  std::string place(const data::LabelFault& f) const {
    const data::Sample& s = sample(f);
    if (s.label_file.empty()) return s.image.string();
    if (f.truth < 0) return s.label_file;
    const int64_t line = s.labels[static_cast<size_t>(f.truth)].line;
    return fmt::format("{}:{}{}", s.label_file, s.lines_are_ids ? " annotation " : "", line);
  }
  std::string what(const data::LabelFault& f) const {
    std::string text(name_of(f.kind));
    if (f.truth >= 0) text += ": labelled " + labelled(f);
    if (f.detection >= 0)
      text += fmt::format("{} {} {:.2f}", f.truth >= 0 ? ", detected" : ":",
                          class_at(detection(f).class_id), detection(f).score);
    return text;
  }
};

Json box_json(const data::CocoBox& b) { return {b.x, b.y, b.w, b.h}; }

Json to_json(const Audit& audit, const std::vector<data::LabelFault>& faults) {
  Json list = Json::array();
  for (const auto& f : faults) {
    const data::Sample& s = audit.sample(f);
    Json j = {{"kind", name_of(f.kind)},
              {"suspicion", f.suspicion},
              {"image", s.image.string()},
              {"file", s.label_file}};
    if (f.truth >= 0) {
      j["line"] = s.labels[static_cast<size_t>(f.truth)].line;
      j["label"] = audit.labelled(f);
      j["box"] = box_json(audit.image(f).truths[static_cast<size_t>(f.truth)].box);
    }
    if (f.detection >= 0) {
      j["detected"] = audit.class_at(audit.detection(f).class_id);
      j["confidence"] = audit.detection(f).score;
      j["detected_box"] = box_json(audit.detection(f).box);
    }
    list.push_back(std::move(j));
  }
  return list;
}

// The place of the fault with some of what is around it: the label orange, the detection blue.
data::Image crop_of(const Audit& audit, const data::LabelFault& f, const data::Image& image) {
  constexpr data::Color kLabel{236, 132, 20}, kDetection{31, 99, 196};
  constexpr int kSide = 280;
  std::vector<data::LabelledBox> boxes;
  const auto add = [&](const data::CocoBox& b, const std::string& name, double score,
                       data::Color color) {
    boxes.push_back({{b.x, b.y, b.x + b.w, b.y + b.h}, 0, name, score, color});
  };
  if (f.truth >= 0)
    add(audit.image(f).truths[static_cast<size_t>(f.truth)].box, audit.labelled(f), -1, kLabel);
  if (f.detection >= 0)
    add(audit.detection(f).box, audit.class_at(audit.detection(f).class_id),
        audit.detection(f).score, kDetection);
  data::Rect around = boxes[0].box;
  for (const auto& b : boxes)
    around = {std::min(around.x0, b.box.x0), std::min(around.y0, b.box.y0),
              std::max(around.x1, b.box.x1), std::max(around.y1, b.box.y1)};
  const double side = std::clamp(1.8 * std::max(around.x1 - around.x0, around.y1 - around.y0), 96.0,
                                 static_cast<double>(std::max(image.width, image.height)));
  const auto from = [&](double centre, int limit) {
    return std::clamp(static_cast<int>(centre - side / 2), 0,
                      std::max(0, limit - static_cast<int>(side)));
  };
  const int left = from((around.x0 + around.x1) / 2, image.width),
            top = from((around.y0 + around.y1) / 2, image.height);
  data::Image part = data::make_image(std::min(static_cast<int>(side), image.width - left),
                                      std::min(static_cast<int>(side), image.height - top));
  for (int y = 0; y < part.height; ++y)
    std::copy_n(image.row(top + y) + int64_t{3} * left, part.pitch(), part.row(y));
  data::Letterboxed fitted = data::letterbox(part, {.width = kSide, .height = kSide, .pad = 255});
  for (auto& b : boxes) {
    const auto v = [](double x) { return static_cast<float>(x); };
    const data::Box at = fitted.geometry.to_canvas(
        {v(b.box.x0 - left), v(b.box.y0 - top), v(b.box.x1 - left), v(b.box.y1 - top)});
    b.box = {at[0], at[1], at[2], at[3]};
  }
  data::draw_detections(fitted.canvas, boxes, {.line_width = 2, .cap_height = 7});
  return std::move(fitted.canvas);
}

void write_page(const Options& o, const Audit& audit, const std::vector<data::LabelFault>& faults) {
  HtmlBody body;
  body.paragraph(fmt::format(
      "Split '{}' of {}, by {}: what the model disagrees with most comes first. Labels are orange, "
      "detections blue. A disagreement is a hint: look before you correct.",
      o.split, o.data, o.model));
  std::map<data::FaultKind, int64_t> counts;
  for (const auto& f : faults) ++counts[f.kind];
  body.facts({{"labels", std::to_string(audit.dataset.boxes())},
              {"overlooked", std::to_string(counts[data::FaultKind::kOverlooked])},
              {"swapped", std::to_string(counts[data::FaultKind::kSwapped])},
              {"badly placed", std::to_string(counts[data::FaultKind::kMisplaced])},
              {"not detected", std::to_string(counts[data::FaultKind::kUndetected])},
              {"mAP50 of the model here", fmt::format("{:.3f}", audit.result.metrics.ap50)}});
  body.heading(fmt::format("The first {}", std::min<int64_t>(o.top, std::ssize(faults))));
  std::vector<HtmlBody::Figure> figures;
  for (const auto& f : faults) {
    if (std::ssize(figures) == o.top || f.kind == data::FaultKind::kNone) break;
    const auto pixels = data::load_sample(audit.dataset, audit.result.samples[f.image]);
    if (!pixels) continue;
    figures.push_back({"image/jpeg", data::encode_jpeg(crop_of(audit, f, *pixels), "crop", 88),
                       fmt::format("{}. {} ({:.2f}). {}", figures.size() + 1, audit.what(f),
                                   f.suspicion, audit.place(f)),
                       false});
  }
  body.figures(figures, true);
  write_atomically(o.out, html_page("Labels to look at", body));
}

void run(const Options& o) {
  deploy::Graph graph = load_model_graph(o.model);
  deploy::check_detects(graph);
  const data::Dataset dataset = deploy::open_dataset_for(graph, o.data, o.split);
  const auto precision = deploy::choose_precision(o.precision, graph);
  const int size = o.image_size.choose(graph);
  const deploy::EvalResult result =
      deploy::evaluate(graph, dataset, size, precision,
                       {.conf = 0.03, .device = deploy::choose_device(o.device, precision, false)});
  const Audit audit{dataset, result};
  const std::vector<data::LabelFault> faults = data::rank_label_faults(result.images);
  constexpr size_t kPrinted = 20;
  for (size_t i = 0; i < std::min(kPrinted, faults.size()); ++i)
    if (faults[i].kind != data::FaultKind::kNone)
      fmt::print("{}: {}\n", audit.place(faults[i]), audit.what(faults[i]));
  const auto suspicious =
      std::ranges::count_if(faults, [](const auto& f) { return f.kind != data::FaultKind::kNone; });
  fmt::print("{} labels and {} images; {} disagreements, ranked; mAP50 of the model here {:.4f}\n",
             dataset.boxes(), dataset.size(), suspicious, result.metrics.ap50);
  if (!o.out.empty()) write_page(o, audit, faults);
  if (!o.json.empty()) write_atomically(o.json, json_text(to_json(audit, faults), 1) + "\n");
}

}  // namespace

void add_audit_command(Command app) {
  auto o = std::make_shared<Options>();
  Command c = app.add_command(
      "audit", "Rank the labels of a data set by how much a model disagrees with them");
  add_model_argument(c, o->model);
  add_data_option(c, o->data);
  c.add_option("--split NAME", o->split, "split to look at").show_default();
  c.add_option("--out FILE", o->out, "write a page with crops of the first of the ranking")
      .writes();
  c.add_option("--json FILE", o->json, "write the whole ranking to this file").writes();
  const Option top =
      c.add_option("--top N", o->top, "crops on the page").range(1, 5000).show_default();
  add_image_size_option(c, o->image_size);
  add_precision_option(c, o->precision);
  add_device_option(c, o->device);
  c.examples({"sextant audit runs/bccd/best.safetensors --data /data/bccd --out labels.html"});
  c.callback([o, top] {
    check(!top.given() || !o->out.empty(), "--top: is of the page, which needs --out");
    run(*o);
  });
}

}  // namespace sextant::apps
