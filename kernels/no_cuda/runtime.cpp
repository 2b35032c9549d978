// SPDX-License-Identifier: Apache-2.0
// kernels/cuda/runtime.h in a build without CUDA.
#include "kernels/cuda/runtime.h"

#include "core/error.h"

namespace sextant::kernels {
namespace {
constexpr const char* kReason =
    "this build has no CUDA; build with nvcc on the path on a machine with a GPU, or configure "
    "with "
    "-DSEXTANT_CUDA=ON";
}

bool cuda_available(std::string* reason) {
  if (reason) *reason = kReason;
  return false;
}

void start_cuda() { fail("{}", kReason); }

bool deterministic_mode() { return true; }

}  // namespace sextant::kernels
