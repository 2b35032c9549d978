// SPDX-License-Identifier: Apache-2.0
// What each instruction set defines in its namespace that does not depend on VNNI.
#pragma once

#include "kernels/cpu/conv/f32.h"
#include "kernels/cpu/isa.h"

#if defined(__x86_64__)
#define SEXTANT_EACH_F32_ISA(X) X(portable) X(avx2) X(avx512)
#else
#define SEXTANT_EACH_F32_ISA(X) X(portable)
#endif

// Returns what the function of the instruction set in use returns.
#if defined(SEXTANT_WIDE)
#define SEXTANT_CALL_F32_ISA(name, ...)                        \
  if (isa() >= Isa::kAvx512) return avx512::name(__VA_ARGS__); \
  if (isa() >= Isa::kAvx2) return avx2::name(__VA_ARGS__);     \
  return portable::name(__VA_ARGS__)
#elif defined(__x86_64__)
#define SEXTANT_CALL_F32_ISA(name, ...)                    \
  if (isa() >= Isa::kAvx2) return avx2::name(__VA_ARGS__); \
  return portable::name(__VA_ARGS__)
#else
#define SEXTANT_CALL_F32_ISA(name, ...) return portable::name(__VA_ARGS__)
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
