// SPDX-License-Identifier: Apache-2.0
// What each instruction set defines in its namespace; kernels/cpu/conv/f32.cpp chooses.
#pragma once

#include "kernels/cpu/conv/f32.h"

#if defined(__x86_64__)
#define SEXTANT_EACH_F32_ISA(X) X(portable) X(avx2) X(avx512)
#else
#define SEXTANT_EACH_F32_ISA(X) X(portable)
#endif

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
