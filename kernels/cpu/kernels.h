// SPDX-License-Identifier: Apache-2.0
// The CPU's kernels, as listed in kernels/backend.h, declared for kernels that use others. Code
// outside kernels/cpu calls them through kernels::backend().
#pragma once

#include "kernels/backend.h"
#include "kernels/cpu/namespace.h"

namespace sextant::kernels::SEXTANT_CPU {

#define SEXTANT_DECLARE(name, Params) void name(const Params& p);
SEXTANT_KERNELS(SEXTANT_DECLARE)
#undef SEXTANT_DECLARE

}  // namespace sextant::kernels::SEXTANT_CPU
