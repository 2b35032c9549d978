// SPDX-License-Identifier: Apache-2.0
#include "kernels/backend.h"

#include "core/error.h"

namespace sextant::kernels {
namespace {
const Backend* cuda_backend = nullptr;
}

void set_cuda_backend(const Backend* backend) { cuda_backend = backend; }

const Backend& backend(Device device) {
  if (device == Device::kCpu) return cpu::backend();
  check(cuda_backend != nullptr, "no CUDA device has been started");
  return *cuda_backend;
}

}  // namespace sextant::kernels
