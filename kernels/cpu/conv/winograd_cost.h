// SPDX-License-Identifier: Apache-2.0
// What algorithms cost, to choose one: in multiply-adds.
#pragma once

#include "kernels/cpu/conv/window.h"

namespace sextant::kernels::cpu {

inline double direct_cost(const Window& w) {
  return static_cast<double>(w.n * w.oh * w.ow * w.kh * w.kw) * static_cast<double>(w.ic * w.oc);
}

// F(m x m, 3x3), its transforms counted as the multiply-adds of one pixel that would be done in their
// time: about 8 for each position and channel.
inline double winograd_cost(const Window& w, int64_t m) {
  const int64_t tiles = w.n * ((w.oh + m - 1) / m) * ((w.ow + m - 1) / m);
  const int64_t positions = (m + 2) * (m + 2);
  return static_cast<double>(tiles * positions) *
         static_cast<double>(w.ic * w.oc + 8 * (w.ic + w.oc));
}

}  // namespace sextant::kernels::cpu
