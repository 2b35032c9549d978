// SPDX-License-Identifier: Apache-2.0
// The 16-bit floating-point types under the names that the runner gives them.
#pragma once

#include "core/half.h"

namespace simt {
using half = sextant::Half;
using bfloat16 = sextant::BFloat16;
using sextant::to_bfloat16;
using sextant::to_float;
using sextant::to_half;
}  // namespace simt
