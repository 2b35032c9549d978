// `detect`: images in, annotated PNGs and a JSON file out. Shared by sextant and sextant-infer.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "apps/cli/command_line.h"
#include "deploy/graph/graph.h"

namespace sextant::apps {

struct DetectOptions {
  std::string model, out, precision, device = "auto";
  std::vector<std::string> inputs;
  int image_size = 0;
  float conf = 0.4f;
  double iou = 0.45;
  int64_t max_det = 300;
  bool multi_label = false;
  bool no_pictures = false;
};

// How a MODEL argument becomes a graph: sextant reads checkpoints too, sextant-infer deploy files
// only.
using LoadGraph = std::function<deploy::Graph(const std::string& path)>;

// Adds the options to a (sub)command.
void add_detect_options(Command app, DetectOptions& options);
// Writes OUT/<name>.png for each image and OUT/detections.json: COCO's results form, in which
// "image_id" counts the images in the order they were given (folders by name) from 0 and
// "category_id" is the class from 0, each with "file_name" and "category_name" beside it. A broken
// image is named on stderr, the others are done, and the run ends in an Error.
void run_detect(const DetectOptions& options, const LoadGraph& load);

}  // namespace sextant::apps
