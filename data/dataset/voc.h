// SPDX-License-Identifier: Apache-2.0
// One Pascal VOC annotation file.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace sextant::data {

struct VocObject {
  std::string name;
  double x_min = 0, y_min = 0, x_max = 0, y_max = 0;  // as in the file: pixels, counted from 1
  bool difficult = false;
  std::string problem;  // if not empty, the box is invalid for this reason
  int64_t line = 0;     // of the object in the file
};
struct VocAnnotation {
  int64_t width = 0, height = 0;  // 0: not given
  std::vector<VocObject> objects;
};

// Throws Error that starts with `where` for anything but a VOC file.
VocAnnotation parse_voc(std::string_view text, const std::string& where);

}  // namespace sextant::data
