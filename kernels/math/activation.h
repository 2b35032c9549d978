// SPDX-License-Identifier: Apache-2.0
// The activation functions: their list, and for each its value, its derivative and the traits that
// the rest of the program needs. One definition for the CPU, CUDA and the quantized simulation.
//
// A new activation is a row of SEXTANT_ACTIVATIONS and an ActivationOf in activation.inc. Outside these
// files only foreign formats list activations individually: ONNX (deploy/onnx) and cuDNN.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "core/enum_names.h"

// Functions that nvcc also compiles for the device. Always inline, so that code for one instruction
// set is not linked into what was compiled for another.
#if defined(__CUDACC__)
#define SEXTANT_HD __host__ __device__ __forceinline__
#else
#define SEXTANT_HD inline __attribute__((always_inline))
#endif
// A pragma of OpenMP in such a function: for the host's compiler only.
#if defined(__CUDACC__)
#define SEXTANT_OMP(...)
#else
#define SEXTANT_OMP(...) _Pragma(#__VA_ARGS__)
#endif

namespace sextant {

// ACTIVATION(enumerator, name in files and options)
#define SEXTANT_ACTIVATIONS(ACTIVATION) \
  ACTIVATION(kIdentity, "identity")     \
  ACTIVATION(kReLU, "relu")             \
  ACTIVATION(kLeakyReLU, "leaky_relu")  \
  ACTIVATION(kSiLU, "silu")             \
  ACTIVATION(kHardswish, "hardswish")   \
  ACTIVATION(kSigmoid, "sigmoid")       \
  ACTIVATION(kMish, "mish")             \
  ACTIVATION(kReLU6, "relu6")           \
  ACTIVATION(kHardSigmoid, "hard_sigmoid")

enum class Activation : int {
#define SEXTANT_ENUMERATOR(value, name) value,
  SEXTANT_ACTIVATIONS(SEXTANT_ENUMERATOR)
#undef SEXTANT_ENUMERATOR
};
constexpr auto enum_names(Activation) {
#define SEXTANT_NAME(value, name) {Activation::value, name},
  return make_enum_names<Activation>("activation", {SEXTANT_ACTIVATIONS(SEXTANT_NAME)});
#undef SEXTANT_NAME
}

namespace kernels {

inline constexpr float kLeakySlope = 0.01f;  // PyTorch's default negative_slope

// The traits of an activation for code that does not evaluate it.
struct ActivationTraits {
  // act(a x) = a act(x) for a > 0: two straight lines that meet at zero.
  bool homogeneous = false;
  bool never_negative = false;
  bool exponential = false;  // computed with one: backends may differ by its rounding
  // What it tends to on the right; infinity: to x. All but the homogeneous ones tend to 0 on the
  // left.
  float limit = std::numeric_limits<float>::infinity();
};

#include "kernels/math/activation.inc"

template <>
SEXTANT_HD float rounded_down(float x) {
  return std::floor(x);
}
template <>
SEXTANT_HD float power_of_two(float n) {
#if defined(__CUDA_ARCH__)
  return exp2f(n);
#else
  return std::bit_cast<float>((static_cast<int32_t>(n) + 127) << 23);
#endif
}

// --- derived from the list -----------------------------------------------------------------------

// Selected at run time, for code where that cost does not matter.
SEXTANT_HD float activate(Activation a, float x) {
  switch (a) {
#define SEXTANT_CASE(value, name) \
  case Activation::value:         \
    return activate<Activation::value>(x);
    SEXTANT_ACTIVATIONS(SEXTANT_CASE)
#undef SEXTANT_CASE
  }
  return x;
}

SEXTANT_HD constexpr ActivationTraits traits_of(Activation a) {
  switch (a) {
#define SEXTANT_CASE(value, name) \
  case Activation::value:         \
    return ActivationOf<Activation::value>::kTraits;
    SEXTANT_ACTIVATIONS(SEXTANT_CASE)
#undef SEXTANT_CASE
  }
  return {};
}

// Calls f(ActivationTag<A>{}), the activation as a compile-time constant.
template <Activation A>
struct ActivationTag {
  static constexpr Activation value = A;
};
template <class F>
void dispatch_activation(Activation a, F&& f) {
  switch (a) {
#define SEXTANT_CASE(value, name) \
  case Activation::value:         \
    return f(ActivationTag<Activation::value>{});
    SEXTANT_ACTIVATIONS(SEXTANT_CASE)
#undef SEXTANT_CASE
  }
}

}  // namespace kernels
}  // namespace sextant
