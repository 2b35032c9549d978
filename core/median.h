// SPDX-License-Identifier: Apache-2.0
// The median of measurements.
#pragma once

#include <algorithm>
#include <vector>

namespace sextant {

// For an even count, the upper of the two middle values; 0 for an empty list.
inline double median(std::vector<double> v) {
  if (v.empty()) return 0.0;
  std::ranges::sort(v);
  return v[v.size() / 2];
}

}  // namespace sextant
