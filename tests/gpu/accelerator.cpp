// SPDX-License-Identifier: Apache-2.0
// The device for tests that test_simt runs on the SIMT runner: here a GPU.
#include "simt/accelerator.h"

#include "kernels/cuda/runtime.h"
#include "support/support.h"

namespace sextant::test {

TestDevice::TestDevice(uint64_t) {
  if (kernels::cuda_available()) kernels::start_cuda();
}
TestDevice::~TestDevice() {
  if (has_accelerator()) accelerator().synchronize(compute_stream());
}

bool TestDevice::usable() const {
  std::string reason;
  if (kernels::cuda_available(&reason)) return true;
  skip(reason);
  return false;
}

int64_t TestDevice::host_waits() const { return 0; }
bool TestDevice::refuse_recordings() { return false; }

}  // namespace sextant::test
