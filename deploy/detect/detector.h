// SPDX-License-Identifier: Apache-2.0
// From an image to boxes: the one path that evaluation, `detect` and the int8 binary take.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "data/image/image.h"
#include "data/image/letterbox.h"
#include "deploy/engine/engine.h"
#include "kernels/detection/nms.h"

namespace sextant::deploy {

struct DetectorConfig {
  int image_size = 640;
  int batch = 1;  // images that the engine takes at a time; a box does not depend on it
  Precision precision = Precision::kFloat32;
  bool simulate = false;  // int8: the fake-quant simulation in place of the engine
  // kCuda: letterbox, engine and NMS run on the device; only the image and the boxes are copied.
  Device device = Device::kCpu;
  kernels::NmsOptions nms;
  // By class: boxes with less are left out of what nms gives. Empty: nms.conf alone.
  std::vector<float> class_conf{};
};

// Throws Error naming the model unless it ends in a decode node.
void check_detects(const Graph& graph);

// The name of a class; its number where it has none.
std::string class_name(const Graph& graph, int64_t id);

// Seconds spent, summed over all images so far.
struct DetectorTimes {
  int at_a_time = 1;       // images, each on one thread
  double preprocess = 0;   // letterbox
  double inference = 0;    // engine, decoding included
  double postprocess = 0;  // NMS, mapping the boxes back to the image
  int64_t images = 0;

  DetectorTimes& operator+=(const DetectorTimes& other);
  // From a sum to milliseconds that pass for an image.
  double per_image(double seconds) const;
};

class Detector {
 public:
  // Images get the grey border stored in the graph. Throws as check_detects().
  Detector(const Graph& graph, const DetectorConfig& config);
  // Another detector over the same weights, for another thread; its times start at zero.
  Detector sibling() const;
  // The same with another way to choose boxes.
  Detector sibling(const kernels::NmsOptions& nms) const;
  // Boxes in pixels of `image`, clipped to it, best first.
  std::vector<kernels::Detection> run(const data::Image& image);
  // The same of each image. Throws Error for more than config.batch; fewer cost as much.
  std::vector<std::vector<kernels::Detection>> run(std::span<const data::Image* const> images);
  const DetectorTimes& times() const { return times_; }
  // Runs once on an empty image, so that the cost of the first call is not measured.
  void warm_up();
  const Engine& engine() const { return engine_; }

 private:
  Detector(const DetectorConfig& config, const data::LetterboxOptions& canvas, Engine engine);
  // The canvases in input_.
  void letterbox(std::span<const data::Image* const> images,
                 std::span<const data::LetterboxGeometry> geometries);
  // Of the first `images` of a batch.
  std::vector<std::vector<kernels::Detection>> suppress(const Tensor& predictions,
                                                        int64_t images) const;
  // Waits for the device, so that times measure finished work.
  void finish() const;

  DetectorConfig config_;
  data::LetterboxOptions canvas_;
  Engine engine_;
  Tensor input_;
  DetectorTimes times_;
};

}  // namespace sextant::deploy
