// SPDX-License-Identifier: Apache-2.0
// Input lines with their padding.
#pragma once

#include <algorithm>

#include "kernels/cpu/conv/window.h"

namespace sextant::kernels::cpu {

// Values of a line that all output columns of a row read.
inline int64_t line_values(const Window& w) { return ((w.ow - 1) * w.stride + w.kw) * w.ic; }

// Line y of image n to `to`, zeros where it has no pixels.
inline void copy_line(const Window& w, const Pixels<const float>& x, int64_t n, int64_t y,
                      float* to) {
  float* const end = to + line_values(w);
  const int64_t first = std::max<int64_t>(0, -w.left);  // pixel of the line that is read first
  to = std::fill_n(to, std::clamp<int64_t>(w.left * w.ic, 0, end - to), 0.0f);
  const int64_t pixels = std::min(w.w - first, (end - to) / w.ic);
  if (y >= 0 && y < w.h && pixels > 0) {
    const float* from = x.at(n, y, first);
    if (x.pixel == w.ic) {
      to = std::copy_n(from, pixels * w.ic, to);
    } else {
      for (int64_t i = 0; i < pixels; ++i, from += x.pixel) to = std::copy_n(from, w.ic, to);
    }
  }
  std::fill(to, end, 0.0f);
}

}  // namespace sextant::kernels::cpu
