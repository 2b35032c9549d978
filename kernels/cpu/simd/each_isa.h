// SPDX-License-Identifier: Apache-2.0
// The instruction sets that kernels in f32, which VNNI does not change, are compiled for.
#pragma once

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
