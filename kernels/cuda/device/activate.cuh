// Activations chosen at run time, in kernels where that choice costs nothing beside the rest.
#pragma once

#include "kernels/cuda/device/launch.h"
#include "kernels/math/activation.h"

namespace sextant::kernels::cuda {

__device__ __forceinline__ float activate_any(Activation act, float v) {
  switch (act) {
    case Activation::kIdentity:
      return v;
    case Activation::kReLU:
      return activate<Activation::kReLU>(v);
    case Activation::kLeakyReLU:
      return activate<Activation::kLeakyReLU>(v);
    case Activation::kSiLU:
      return activate<Activation::kSiLU>(v);
    case Activation::kHardswish:
      return activate<Activation::kHardswish>(v);
    case Activation::kSigmoid:
      return activate<Activation::kSigmoid>(v);
    case Activation::kMish:
      return activate<Activation::kMish>(v);
  }
  return v;
}

}  // namespace sextant::kernels::cuda
