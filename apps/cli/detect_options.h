// SPDX-License-Identifier: Apache-2.0
// `detect` on the command line. Shared by sextant and sextant-infer.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "apps/cli/common_options.h"
#include "apps/detecting/detect.h"
#include "deploy/graph/graph.h"

namespace sextant::apps {

struct DetectOptions {
  std::string model, raw;
  std::vector<std::string> inputs, classes;
  bool recursive = false;
  ImageSize image_size;
  std::optional<deploy::Precision> precision;
  deploy::DeviceChoice device = deploy::DeviceChoice::kAuto;
  Confidence conf{"0.4"};
  double iou = 0.45;
  int64_t max_det = 300;
  bool multi_label = false;
  bool agnostic = false;
  bool selftest = false;
  bool no_pictures = false, hide_labels = false, save_txt = false;
  DetectOutputs outputs;
};

// How a MODEL argument is loaded: sextant also reads checkpoints, sextant-infer only deploy files.
using LoadGraph = std::function<deploy::Graph(const std::string& path)>;

// Adds the options and examples to a program or command; `name` is its name in the examples.
void add_detect_options(Command app, DetectOptions& options, const std::string& name);
// Runs apps/detecting/detect.h and prints a line of counts and times. Throws Error at the end when
// an image could not be read.
void run_detect(const DetectOptions& options, const LoadGraph& load);

}  // namespace sextant::apps
