// SPDX-License-Identifier: Apache-2.0
// What each instruction set defines in its namespace that does not depend on VNNI.
#pragma once

#include "kernels/cpu/conv/f32.h"
#include "kernels/cpu/simd/each_isa.h"

namespace sextant::kernels::cpu {

#define SEXTANT_DECLARE(isa)                                                                \
  namespace isa {                                                                           \
  std::unique_ptr<F32Conv> make_direct(const Window& window, const WeightView& w);          \
  std::unique_ptr<F32Conv> make_winograd(const Window& window, const WeightView& w, int m); \
  std::unique_ptr<F32Conv> make_depthwise(const Window& window, const WeightView& w);       \
  void weight_gradient(const Window& window, const F32Gradient& p);                         \
  void depthwise_weight_gradient(const Window& window, const F32Gradient& p);               \
  void winograd_weight_gradient(const Window& window, const F32Gradient& p);                \
  }
SEXTANT_EACH_F32_ISA(SEXTANT_DECLARE)
#undef SEXTANT_DECLARE

}  // namespace sextant::kernels::cpu
