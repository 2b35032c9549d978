// Which YOLOv6 a state dict belongs to, from its names and shapes alone.
#pragma once

#include <set>
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
  int64_t image_size = 0;  // that the official recipe of this kind trains at
};

// `state` lists names and shapes in PyTorch's layout. `classes`, if known, are the Python classes
// of the modules ("yolov6.layers.common.QARepVGGBlock"), which tell apart what names cannot:
// QARepVGGBlock from QARepVGGBlockV2 and ConvBNReLU from ConvBNSiLU; without them the second of
// each, which the official configs use. The kinds and their numbers are those of the official
// configs. Throws Error, starting with `where`, when the state dict is none of them.
RecognisedModel recognise_yolov6(const std::vector<std::pair<std::string, Shape>>& state,
                                 const std::string& where,
                                 const std::set<std::string>& classes = {});

}  // namespace sextant
