// SPDX-License-Identifier: Apache-2.0
// The CPU's kernels as a Backend.
#include "kernels/backend.h"

#include "kernels/cpu/kernels.h"

namespace sextant::kernels::SEXTANT_CPU {
namespace {

class CpuBackend final : public Backend {
 public:
  Device device() const override { return Device::kCpu; }
#define SEXTANT_FORWARD(name, Params) \
  void name(const Params& p) const override { SEXTANT_CPU::name(p); }
  SEXTANT_KERNELS(SEXTANT_FORWARD)
#undef SEXTANT_FORWARD
};

}  // namespace

const Backend& backend() {
  static const CpuBackend backend;
  return backend;
}

}  // namespace sextant::kernels::SEXTANT_CPU
