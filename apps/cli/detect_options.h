// `detect`: images in, annotated PNGs and a JSON file out. Shared by sextant and sextant-infer.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "apps/cli/common_options.h"
#include "deploy/graph/graph.h"

namespace sextant::apps {

struct DetectOptions {
  std::string model, out;
  std::vector<std::string> inputs;
  ImageSize image_size;
  std::optional<deploy::Precision> precision;
  deploy::DeviceChoice device = deploy::DeviceChoice::kAuto;
  float conf = 0.4f;
  double iou = 0.45;
  int64_t max_det = 300;
  bool multi_label = false;
  bool no_pictures = false;
};

// How a MODEL argument becomes a graph: sextant reads checkpoints too, sextant-infer deploy files
// only.
using LoadGraph = std::function<deploy::Graph(const std::string& path)>;

// Adds the options and examples to a program or command; `name` is how it is called.
void add_detect_options(Command app, DetectOptions& options, const std::string& name);
// Writes OUT/<name>.png for each image and OUT/detections.json: COCO's results form, in which
// "image_id" counts the images in the order they were given (folders by name) from 0 and
// "category_id" is the class from 0, each with "file_name" and "category_name" beside it. A broken
// image is named on stderr, the others are done, and the run ends in an Error.
void run_detect(const DetectOptions& options, const LoadGraph& load);

}  // namespace sextant::apps
