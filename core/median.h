// The middle of some measurements.
#pragma once

#include <algorithm>
#include <vector>

namespace sextant {

// The upper one of the two middle values where their number is even; 0 of none.
inline double median(std::vector<double> v) {
  if (v.empty()) return 0.0;
  std::ranges::sort(v);
  return v[v.size() / 2];
}

}  // namespace sextant
