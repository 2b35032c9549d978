// Evaluation of a graph on a dataset: COCO mAP and milliseconds per image.
#pragma once

#include <string>
#include <vector>

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
  // {"map50", "map50_95", ..., "per_class", "ms_per_image", ..., "best_f1", "confusion"}
  Json json(const std::vector<std::string>& names) const;
};

struct EvalOptions {
  double conf = 0.03;
  double iou = 0.65;
  bool simulate = false;
  Device device = Device::kCpu;
};

// Each image once, batch 1, through the same Detector as `detect`; multi-label suppression with
// conf and iou, 300 boxes, as the official evaluator. Throws Error naming the image that does
// not decode, and when the classes of model and dataset differ in number.
EvalResult evaluate(const Graph& graph, const data::Dataset& dataset, int image_size,
                    Precision precision, const EvalOptions& options = {});

// The dataset's boxes in pixels of the original images.
std::vector<data::GroundTruth> ground_truth(const data::Sample& sample);

}  // namespace sextant::deploy
