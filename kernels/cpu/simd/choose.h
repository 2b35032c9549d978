// SPDX-License-Identifier: Apache-2.0
// Of one constant for each activation, that of the one at hand: ForActivation<A>::value.
#pragma once

#include "kernels/cpu/simd/vec.h"

SEXTANT_SIMD_BEGIN();
namespace sextant::kernels::cpu::SEXTANT_SIMD {

template <template <Activation> class ForActivation>
auto choose(Activation activation) {
  switch (activation) {
#define SEXTANT_CASE(act, name) \
  case Activation::act:         \
    return ForActivation<Activation::act>::value;
    SEXTANT_ACTIVATIONS(SEXTANT_CASE)
#undef SEXTANT_CASE
  }
  return ForActivation<Activation::kIdentity>::value;
}

}  // namespace sextant::kernels::cpu::SEXTANT_SIMD
SEXTANT_SIMD_END();
