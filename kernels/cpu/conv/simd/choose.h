// Of one constant for each activation, that of the one at hand: ForActivation<A>::value.
#pragma once

#include "kernels/cpu/simd/vec.h"

SEXTANT_SIMD_BEGIN();
namespace sextant::kernels::cpu::SEXTANT_SIMD {

template <template <Activation> class ForActivation>
auto choose(Activation act) {
  switch (act) {
    case Activation::kReLU:
      return ForActivation<Activation::kReLU>::value;
    case Activation::kLeakyReLU:
      return ForActivation<Activation::kLeakyReLU>::value;
    case Activation::kSiLU:
      return ForActivation<Activation::kSiLU>::value;
    case Activation::kHardswish:
      return ForActivation<Activation::kHardswish>::value;
    case Activation::kSigmoid:
      return ForActivation<Activation::kSigmoid>::value;
    case Activation::kMish:
      return ForActivation<Activation::kMish>::value;
    case Activation::kIdentity:
      break;
  }
  return ForActivation<Activation::kIdentity>::value;
}

}  // namespace sextant::kernels::cpu::SEXTANT_SIMD
SEXTANT_SIMD_END();
