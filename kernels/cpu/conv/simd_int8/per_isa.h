// SPDX-License-Identifier: Apache-2.0
// What each instruction set defines in its namespace; kernels/cpu/conv/int8.cpp chooses.
#pragma once

#include "kernels/cpu/conv/int8.h"

#if defined(__x86_64__)
#define SEXTANT_EACH_INT8_ISA(X) X(portable) X(avx2) X(avx2_vnni) X(avx512) X(avx512_vnni)
#else
#define SEXTANT_EACH_INT8_ISA(X) X(portable)
#endif

namespace sextant::kernels::cpu {

#define SEXTANT_DECLARE(isa)                                                                  \
  namespace isa {                                                                             \
  std::unique_ptr<Int8Conv> make_direct_int8(const Window& window, const int8_t* w);          \
  std::unique_ptr<Int8Conv> make_depthwise_int8(const Window& window, const int8_t* w);       \
  std::unique_ptr<Int8Conv> make_winograd_int8(const Window& window, const int8_t* w, int m); \
  }
SEXTANT_EACH_INT8_ISA(SEXTANT_DECLARE)
#undef SEXTANT_DECLARE

}  // namespace sextant::kernels::cpu
