// SPDX-License-Identifier: Apache-2.0
#include "deploy/detect/evaluation.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "core/parallel.h"
#include "core/progress.h"
#include "core/task_pool.h"
#include "deploy/detect/detector_pool.h"

namespace sextant::deploy {
namespace {

// By image; nothing where it cannot be decoded.
using Detections = std::vector<std::optional<std::vector<kernels::Detection>>>;

// Each process adds those that it has, and gets the others'.
void exchange(Communicator& across, Detections& detections) {
  static_assert(std::is_trivially_copyable_v<kernels::Detection>);
  std::string mine;
  const auto put = [&mine](const void* from, size_t bytes) {
    mine.append(static_cast<const char*>(from), bytes);
  };
  for (size_t i = 0; i < detections.size(); ++i) {
    if (!detections[i]) continue;
    const size_t head[] = {i, detections[i]->size()};
    put(head, sizeof(head));
    put(detections[i]->data(), head[1] * sizeof(kernels::Detection));
  }
  for (const std::string& bytes : across.gather(mine))
    for (size_t at = 0; at < bytes.size();) {
      size_t head[2];
      std::memcpy(head, bytes.data() + at, sizeof(head));
      at += sizeof(head);
      auto& of_image = detections.at(head[0]).emplace(head[1]);
      if (head[1] > 0)
        std::memcpy(of_image.data(), bytes.data() + at, head[1] * sizeof(kernels::Detection));
      at += head[1] * sizeof(kernels::Detection);
    }
}

}  // namespace

Json EvalResult::json(const std::vector<std::string>& names) const {
  Json j = metrics.to_json(names);
  j["images"] = times.images;
  j["ms_per_image"] = times.per_image(times.inference);
  j["ms_preprocess"] = times.per_image(times.preprocess);
  j["ms_postprocess"] = times.per_image(times.postprocess);
  j["best_f1"] = {{"confidence", curves.confidence},
                  {"precision", curves.precision},
                  {"recall", curves.recall},
                  {"f1", curves.f1}};
  j["confusion"] = Json::array();
  for (auto row = confusion.counts.begin(); row != confusion.counts.end(); row += confusion.size)
    j["confusion"].push_back(std::vector<int64_t>(row, row + confusion.size));
  return j;
}

std::optional<data::ClassList> classes_of(const Graph& graph) {
  if (graph.class_names.empty()) return std::nullopt;
  return data::ClassList{graph.class_names, graph.label()};
}

data::Dataset open_dataset_for(const Graph& graph, const std::string& path,
                               const std::string& split, data::DatasetOptions options) {
  options.classes = classes_of(graph);
  data::Dataset dataset = data::open_dataset(path, split, options);
  if (!dataset.report.empty())
    print_notice(fmt::format("{} ({}): {}", path, split, dataset.report.summary()));
  return dataset;
}

std::vector<data::GroundTruth> ground_truth(const data::Sample& sample) {
  std::vector<data::GroundTruth> out;
  const double w = sample.width, h = sample.height;
  for (const auto& l : sample.labels)
    out.push_back({l.category,
                   {(static_cast<double>(l.cx) - l.w / 2.0) * w,
                    (static_cast<double>(l.cy) - l.h / 2.0) * h, l.w * w, l.h * h},
                   l.area > 0 ? std::optional<double>(l.area) : std::nullopt,
                   l.crowd});
  return out;
}

EvalResult evaluate(const Graph& graph, const data::Dataset& dataset, int image_size,
                    Precision precision, const EvalOptions& options) {
  check_detects(graph);
  const auto classes_of_model = graph.decode()->as<DecodeAttributes>().num_classes;
  check(dataset.num_classes() <= classes_of_model, "{}: has {} classes, the model {} has {}",
        dataset.path, dataset.num_classes(), graph.source.empty() ? "in training" : graph.source,
        classes_of_model);
  data::check_has_boxes(dataset);
  DetectorConfig config;
  config.image_size = image_size;
  config.precision = precision;
  config.simulate = options.simulate;
  config.device = options.device;
  config.nms.conf = static_cast<float>(options.conf);
  config.nms.iou = options.iou;
  config.nms.multi_label = true;
  const int classes = static_cast<int>(classes_of_model);
  Communicator* const across = options.across;
  const int64_t first = across ? across->rank() : 0, step = across ? across->size() : 1;
  const int64_t mine = (dataset.size() - first + step - 1) / step;
  config.batch = static_cast<int>(std::clamp<int64_t>(mine, 1, batch_for_many(config)));
  DetectorPool detectors(graph, config);
  Detections detections(static_cast<size_t>(dataset.size()));
  Progress progress("evaluate", mine);
  struct Seen {
    std::vector<data::Image> pixels;  // of those that can be decoded
    std::vector<int64_t> which;       // of this process's
  };
  const auto detect = [&](auto& by, Seen& seen) {
    std::vector<const data::Image*> images;
    for (const data::Image& image : seen.pixels) images.push_back(&image);
    if (images.empty()) return;
    auto found = by.run(images);
    for (size_t k = 0; k < found.size(); ++k)
      detections[static_cast<size_t>(first + seen.which[k] * step)] = std::move(found[k]);
    seen = {};
  };
  // A thread loads what it detects, or one image for the batch of all.
  const bool parallel = detectors.parallel();
  const int64_t batch = detectors.batch(), of_thread = parallel ? batch : 1;
  const auto look = [&](int64_t part) {
    Seen seen;
    for (int64_t i = part * of_thread; i < std::min(mine, (part + 1) * of_thread); ++i) {
      auto pixels = data::load_sample(dataset, first + i * step);
      if (!pixels) continue;
      seen.pixels.push_back(std::move(*pixels));
      seen.which.push_back(i);
    }
    if (parallel) detect(detectors, seen);
    return seen;
  };
  Seen waiting;
  const auto keep = [&](int64_t part, Seen seen) {
    progress.update(part * of_thread);
    for (size_t k = 0; k < seen.which.size(); ++k) {
      waiting.pixels.push_back(std::move(seen.pixels[k]));
      waiting.which.push_back(seen.which[k]);
      if (std::ssize(waiting.which) == batch) detect(detectors.first(), waiting);
    }
  };
  run_in_order((mine + of_thread - 1) / of_thread, num_threads(), look, keep);
  detect(detectors.first(), waiting);
  progress.finish();
  if (across) exchange(*across, detections);
  std::vector<data::ImageEval> images;
  std::vector<int64_t> samples;
  std::vector<data::MatchedDetection> matched;
  std::vector<int> truths;
  data::ConfusionMatrix confusion(classes);
  for (size_t i = 0; i < detections.size(); ++i) {
    if (!detections[i]) continue;
    data::ImageEval image;
    image.truths = ground_truth(dataset.samples[i]);
    for (const auto& d : *detections[i])
      image.detections.push_back(
          {d.class_id, data::CocoBox::from_corners(d.x1, d.y1, d.x2, d.y2), d.score});
    const auto of_image = data::match_detections(image);
    matched.insert(matched.end(), of_image.begin(), of_image.end());
    for (const auto& t : image.truths)
      if (!t.crowd) truths.push_back(t.class_id);
    confusion.add(image);
    images.push_back(std::move(image));
    samples.push_back(static_cast<int64_t>(i));
  }
  check(!images.empty(), "{}: none of the images of split '{}' can be decoded", dataset.path,
        dataset.split);
  DetectorTimes times = detectors.times();
  if (detectors.parallel()) times.at_a_time = num_threads();
  data::CocoMetrics metrics = data::evaluate_coco(images, classes);
  return {std::move(metrics),
          times,
          data::precision_recall(std::move(matched), truths),
          std::move(confusion),
          std::move(images),
          std::move(samples)};
}

}  // namespace sextant::deploy
