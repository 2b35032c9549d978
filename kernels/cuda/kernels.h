// SPDX-License-Identifier: Apache-2.0
// Our CUDA kernels, as listed in kernels/backend.h. Each starts its work on `stream` and returns.
//
// `workspace` is device memory of workspace_bytes(p) bytes, aligned to 256, contents undefined;
// null where that is 0.
#pragma once

#include "core/stream.h"
#include "kernels/backend.h"

namespace sextant::kernels::cuda {

#define SEXTANT_DECLARE(name, Params) void name(const Params& p, void* workspace, Stream stream);
SEXTANT_KERNELS(SEXTANT_DECLARE)
#undef SEXTANT_DECLARE

// For parameters whose header declares no overload.
template <class Params>
int64_t workspace_bytes(const Params&) {
  return 0;
}

}  // namespace sextant::kernels::cuda
