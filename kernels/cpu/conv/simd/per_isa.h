// SPDX-License-Identifier: Apache-2.0
// What each instruction set defines in its namespace that does not depend on VNNI.
#pragma once

#include "kernels/cpu/conv/f32.h"
#include "kernels/cpu/conv/int8.h"
#include "kernels/cpu/isa.h"

#if defined(__x86_64__)
#define SEXTANT_EACH_F32_ISA(X) X(portable) X(avx2) X(avx512)
// Returns what the function of the instruction set in use returns.
#define SEXTANT_CALL_F32_ISA(name, ...)   \
  switch (isa()) {                        \
    case Isa::kPortable:                  \
      return portable::name(__VA_ARGS__); \
    case Isa::kAvx2:                      \
    case Isa::kAvx2Vnni:                  \
      return avx2::name(__VA_ARGS__);     \
    case Isa::kAvx512:                    \
    case Isa::kAvx512Vnni:                \
      return avx512::name(__VA_ARGS__);   \
  }                                       \
  return portable::name(__VA_ARGS__)
#else
#define SEXTANT_EACH_F32_ISA(X) X(portable)
#define SEXTANT_CALL_F32_ISA(name, ...) return portable::name(__VA_ARGS__)
#endif

namespace sextant::kernels::cpu {

#define SEXTANT_DECLARE(isa)                                                                \
  namespace isa {                                                                           \
  std::unique_ptr<F32Conv> make_direct(const Window& window, const WeightView& w);          \
  std::unique_ptr<F32Conv> make_winograd(const Window& window, const WeightView& w, int m); \
  std::unique_ptr<F32Conv> make_depthwise(const Window& window, const WeightView& w);       \
  std::unique_ptr<Int8Conv> make_depthwise_int8(const Window& window, const int8_t* w);     \
  void weight_gradient(const Window& window, const F32Gradient& p);                         \
  void depthwise_weight_gradient(const Window& window, const F32Gradient& p);               \
  void winograd_weight_gradient(const Window& window, const F32Gradient& p);                \
  }
SEXTANT_EACH_F32_ISA(SEXTANT_DECLARE)
#undef SEXTANT_DECLARE

}  // namespace sextant::kernels::cpu
