// SPDX-License-Identifier: Apache-2.0
// Tensors with a pitch in the cases of kernels.
#pragma once

#include <vector>

namespace sextant::test {

// Rows of `channels` of `values` with `gap` elements of `filler` behind each.
template <class T>
std::vector<T> spread(const std::vector<T>& values, int64_t channels, int64_t gap, T filler) {
  if (gap == 0) return values;
  std::vector<T> out;
  for (size_t i = 0; i < values.size(); ++i) {
    out.push_back(values[i]);
    if (static_cast<int64_t>(i + 1) % channels == 0)
      out.insert(out.end(), static_cast<size_t>(gap), filler);
  }
  return out;
}
// The rows without what lies between them.
template <class T>
std::vector<T> gathered(const std::vector<T>& values, int64_t channels, int64_t gap) {
  std::vector<T> out;
  for (size_t i = 0; i < values.size(); ++i)
    if (static_cast<int64_t>(i) % (channels + gap) < channels) out.push_back(values[i]);
  return out;
}

}  // namespace sextant::test
