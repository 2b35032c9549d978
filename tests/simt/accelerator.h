// SPDX-License-Identifier: Apache-2.0
// A CUDA device emulated by the SIMT runner, for tests of code on core/device.h and
// kernels/backend.h: layers, training steps and engines run as on a GPU.
//
// Device memory is a separate region that the host may not touch: its pages are accessible only
// while a kernel or a copy runs, so host code that reads a device tensor's memory crashes
// immediately. Blocks lie between guards that AddressSanitizer knows, and are filled with 0xFF when
// given out (floats NaN).
#pragma once

#include "core/device.h"

namespace sextant::test {

// The device of a test: in test_simt that of the runner, in test_gpu the GPU. Sets accelerator and
// kernels; the runner's go at its end, when no device tensor may be alive.
class TestDevice {
 public:
  explicit TestDevice(uint64_t seed = 1);  // of the runner's schedule
  ~TestDevice();
  TestDevice(const TestDevice&) = delete;
  TestDevice& operator=(const TestDevice&) = delete;

  // False, and says so, where there is no GPU.
  bool usable() const;

  // How often the host has waited for the device: downloads into ordinary memory, synchronize().
  // Always 0 on a GPU.
  int64_t host_waits() const;

  // From here on recordings end in an Error. False on a GPU, where they do not.
  bool refuse_recordings();
};

}  // namespace sextant::test
