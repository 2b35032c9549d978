// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace sextant::kernels::cpu {

// db = the sums of dy [rows, channels] over its rows, cut by size alone, in double.
void bias_gradient(const float* dy, int64_t rows, int64_t channels, float* db);

}  // namespace sextant::kernels::cpu
