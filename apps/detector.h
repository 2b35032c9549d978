// From an image to boxes: the one path that evaluation, `detect` and the int8 binary take.
#pragma once

#include <string>
#include <vector>

#include "data/image.h"
#include "data/letterbox.h"
#include "deploy/engine.h"
#include "kernels/nms.h"

namespace sextant::apps {

struct DetectorConfig {
  int image_size = 640;
  deploy::Precision precision = deploy::Precision::kFloat32;
  bool simulate = false;  // int8: the fake-quant simulation in place of the engine
  // kCuda: letterbox, engine and suppression there; only the image and the boxes travel.
  Device device = Device::kCpu;
  kernels::NmsOptions nms;
};

// Seconds spent, summed over all images so far.
struct DetectorTimes {
  double preprocess = 0;   // letterbox
  double inference = 0;    // engine, decoding included
  double postprocess = 0;  // suppression, boxes back to the image
  int64_t images = 0;
};

class Detector {
 public:
  // The grey border of the images is the graph's.
  Detector(const deploy::Graph& graph, const DetectorConfig& config);
  // Boxes in pixels of `image`, clipped to it, best first.
  std::vector<kernels::Detection> run(const data::Image& image);
  const DetectorTimes& times() const { return times_; }
  // Runs once on an empty image, so that what the first call costs is not counted.
  void warm_up();
  const deploy::Engine& engine() const { return engine_; }

 private:
  // The canvas in input_.
  void letterbox(const data::Image& image, const data::LetterboxGeometry& geometry);
  std::vector<kernels::Detection> suppress(const Tensor& predictions) const;
  // Waits for the device, so that times are those of the work.
  void finish() const;

  DetectorConfig config_;
  data::LetterboxOptions canvas_;
  deploy::Engine engine_;
  Tensor input_;
  DetectorTimes times_;
};

}  // namespace sextant::apps
