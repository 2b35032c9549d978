// SPDX-License-Identifier: Apache-2.0
// Evaluation of a graph on a dataset: COCO mAP and milliseconds per image.
#pragma once

#include <string>
#include <vector>

#include "core/communicator.h"
#include "data/dataset/dataset.h"
#include "data/metrics/coco_map.h"
#include "data/metrics/detection_metrics.h"
#include "deploy/detect/detector.h"

namespace sextant::deploy {

struct EvalResult {
  data::CocoMetrics metrics;
  DetectorTimes times;
  data::PrecisionRecall curves;
  data::ConfusionMatrix confusion;
  // Boxes and detections of each image that was read, and which sample of the dataset it is.
  std::vector<data::ImageEval> images;
  std::vector<int64_t> samples;
  // {"map50", "map50_95", ..., "per_class", "ms_per_image", ..., "best_f1", "confusion"}
  Json json(const std::vector<std::string>& names) const;
};

struct EvalOptions {
  double conf = 0.03;
  double iou = 0.65;
  bool simulate = false;
  Device device = Device::kCpu;
  // The images are shared out to the processes, each of which gets the result of all (with its own
  // times). Null: one process.
  Communicator* across = nullptr;
};

// The classes of a model, which a dataset has to match; empty if the model has no class names.
std::optional<data::ClassList> classes_of(const Graph& graph);

// Opens a split for a model: its classes are the model's, matched by name (data/dataset/dataset.h).
// Mistakes in the labels are reported on stderr.
data::Dataset open_dataset_for(const Graph& graph, const std::string& path,
                               const std::string& split, data::DatasetOptions options = {});

// Each image once, through the same Detector as `detect`, several at a time
// (deploy/detect/detector_pool.h); multi-label NMS with conf and iou, 300 boxes, as in the official
// evaluator. Images that cannot be decoded are left out
// (data::load_sample()). Throws Error when the model is not a detector, has fewer classes than the
// dataset, or when the split has no boxes or no readable images.
EvalResult evaluate(const Graph& graph, const data::Dataset& dataset, int image_size,
                    Precision precision, const EvalOptions& options = {});

// The dataset's boxes in pixels of the original images.
std::vector<data::GroundTruth> ground_truth(const data::Sample& sample);

}  // namespace sextant::deploy
