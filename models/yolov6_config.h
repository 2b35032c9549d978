// What a YOLOv6 is made of, as JSON describes it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/config.h"
#include "models/loss.h"

namespace sextant {

// Defaults: YOLOv6-N in the legacy RepPAN form (official configs/repopt/yolov6n_opt.py with
// training mode repvgg).
struct Yolov6Config {
  std::string type = "yolov6n_opt";  // a preset that fills in what is not given
  int64_t num_classes = 80;
  double depth_multiple = 0.33;
  double width_multiple = 0.25;
  std::vector<int64_t> backbone_channels = {64, 128, 256, 512, 1024};
  std::vector<int64_t> backbone_repeats = {1, 6, 12, 18, 6};
  std::vector<int64_t> neck_channels = {256, 128, 128, 256, 256, 512};
  std::vector<int64_t> neck_repeats = {12, 12, 12, 12};
  std::string training_mode = "repvgg";
  bool use_dfl = false;
  int64_t reg_max = 0;
  std::string iou_type = "siou";

  static constexpr int64_t kStrides[3] = {8, 16, 32};
  int64_t max_stride() const { return kStrides[2]; }  // image sides are multiples of it
  // ceil(c * width_multiple / 8) * 8
  int64_t channels(int64_t c) const;
  // max(round(n * depth_multiple), 1) for n > 1, rounding halves to even; n otherwise
  int64_t repeats(int64_t n) const;
  LossConfig loss() const;
  Json json() const;
};

// Reads the object under "model"; num_classes comes from the data. Throws Error naming the key.
Yolov6Config read_yolov6_config(ConfigReader reader, int64_t num_classes);

}  // namespace sextant
