// A CUDA device made of the SIMT runner, for tests of what is built on core/device.h and
// kernels/backend.h: layers, training steps and engines run as they would on a GPU.
//
// Device memory is a region of its own that the host may not touch: pages are inaccessible but
// while a kernel or a copy runs, so host code that reads a device tensor's memory dies there and
// then. Blocks lie between guards that AddressSanitizer knows, and are filled with 0xFF when given
// out (floats NaN).
#pragma once

#include "core/device.h"

namespace sextant::test {

// Sets accelerator and kernels; takes them away at its end, when no device tensor may be alive.
class SimtDevice {
 public:
  explicit SimtDevice(uint64_t seed = 1);
  ~SimtDevice();
  SimtDevice(const SimtDevice&) = delete;
  SimtDevice& operator=(const SimtDevice&) = delete;

  // How often the host has waited for the device: downloads into ordinary memory, synchronize().
  int64_t host_waits() const;
};

}  // namespace sextant::test
