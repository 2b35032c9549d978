// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>

namespace sextant::bench {

inline double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Multiply-adds on registers only, on all threads, on the instruction set in use: what no kernel can
// exceed. In 10^9 operations a second.
double peak_gflops();

}  // namespace sextant::bench
