// `detect` on the command line. Shared by sextant and sextant-infer.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "apps/cli/command_line.h"
#include "apps/detecting/detect.h"
#include "deploy/graph/graph.h"

namespace sextant::apps {

struct DetectOptions {
  std::string model, precision, device = "auto", raw;
  std::vector<std::string> inputs, formats, classes;
  bool recursive = false;
  int image_size = 0;
  float conf = 0.4f;
  double iou = 0.45;
  int64_t max_det = 300;
  bool multi_label = false;
  bool agnostic = false;
  bool no_pictures = false, hide_labels = false, save_txt = false;
  DetectOutputs outputs;
};

// How a MODEL argument becomes a graph: sextant reads checkpoints too, sextant-infer deploy files
// only.
using LoadGraph = std::function<deploy::Graph(const std::string& path)>;

// Adds the options to a (sub)command.
void add_detect_options(Command app, DetectOptions& options);
// Runs apps/detecting/detect.h and prints a line of counts and times. Ends in an Error when an image
// could not be read.
void run_detect(const DetectOptions& options, const LoadGraph& load);

}  // namespace sextant::apps
