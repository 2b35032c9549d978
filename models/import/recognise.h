// SPDX-License-Identifier: Apache-2.0
// Which YOLOv6 a state dict belongs to, from its names and shapes alone.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/config.h"
#include "core/shape.h"

namespace sextant {

struct RecognisedModel {
  Json model;  // as Yolov6Config reads it: type, training_mode, use_dfl, reg_max, ...
  int64_t num_classes = 0;
  std::vector<int64_t> strides;
  int64_t image_size = 0;  // that of the official evaluation
};

// `state` lists names and shapes in PyTorch's layout. `block`, if known, is the Python class of
// backbone.stem ("yolov6.layers.common.QARepVGGBlock"). It distinguishes what names cannot:
// QARepVGGBlock from QARepVGGBlockV2, and ConvBNReLU from ConvBNSiLU. Without it the second of each
// is assumed, as in the official configs. The kinds and their numbers are those of these configs.
// Throws Error, starting with `where`, when the state dict matches none of them.
RecognisedModel recognise_yolov6(const std::vector<std::pair<std::string, Shape>>& state,
                                 const std::string& where, const std::string& block = "");

}  // namespace sextant
