// SPDX-License-Identifier: Apache-2.0
// The activation functions: their list, and for each its value, its derivative and the traits that
// the rest of the program needs. One definition for the CPU, CUDA and the quantized simulation.
//
// A new activation is a row of SEXTANT_ACTIVATIONS and an ActivationOf beside the others. Outside
// this file only foreign formats list activations individually: ONNX (deploy/onnx) and cuDNN.
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

// e^x within 2 ulp on [-87, 88], clamped outside; branch-free, so that loops over it vectorise.
// Range reduction by ln 2 in two parts and a degree-6 polynomial (Cephes expf). T is float or a
// vector of kernels/cpu/vec.h.
template <class T>
SEXTANT_HD T fast_exp(T x);

template <>
SEXTANT_HD float fast_exp(float x) {
#if defined(__CUDA_ARCH__)
  return expf(x);
#else
  x = x < -87.0f ? -87.0f : (x > 88.0f ? 88.0f : x);
  const float n = std::floor(x * 1.44269504088896341f + 0.5f);
  float r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  return p * std::bit_cast<float>((static_cast<int32_t>(n) + 127) << 23);
#endif
}

template <class T>
SEXTANT_HD T sigmoid(T x) {
  return 1.0f / (1.0f + fast_exp(-x));
}

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

// kTraits, value(x), and slope(x), the derivative; at a kink the value that PyTorch takes
// (ReLU'(0) = 0). T is float or a vector of kernels/cpu/vec.h.
template <Activation A>
struct ActivationOf;

template <>
struct ActivationOf<Activation::kIdentity> {
  static constexpr ActivationTraits kTraits{.homogeneous = true};
  template <class T>
  SEXTANT_HD static T value(T x) {
    return x;
  }
  template <class T>
  SEXTANT_HD static T slope(T) {
    return T{} + 1.0f;
  }
};

template <>
struct ActivationOf<Activation::kReLU> {
  static constexpr ActivationTraits kTraits{.homogeneous = true, .never_negative = true};
  template <class T>
  SEXTANT_HD static T value(T x) {
    return x > 0.0f ? x : T{};
  }
  template <class T>
  SEXTANT_HD static T slope(T x) {
    return x > 0.0f ? T{} + 1.0f : T{};
  }
};

template <>
struct ActivationOf<Activation::kLeakyReLU> {
  static constexpr ActivationTraits kTraits{.homogeneous = true};
  template <class T>
  SEXTANT_HD static T value(T x) {
    return x > 0.0f ? x : kLeakySlope * x;
  }
  template <class T>
  SEXTANT_HD static T slope(T x) {
    return x > 0.0f ? T{} + 1.0f : T{} + kLeakySlope;
  }
};

template <>
struct ActivationOf<Activation::kSiLU> {
  static constexpr ActivationTraits kTraits{.exponential = true};
  template <class T>
  SEXTANT_HD static T value(T x) {
    return x * sigmoid(x);
  }
  template <class T>
  SEXTANT_HD static T slope(T x) {
    const T s = sigmoid(x);
    return s * (1.0f + x * (1.0f - s));
  }
};

template <>
struct ActivationOf<Activation::kHardswish> {
  static constexpr ActivationTraits kTraits{};
  template <class T>
  SEXTANT_HD static T value(T x) {
    const T six = T{} + 6.0f;
    T t = x + 3.0f;
    t = t < 0.0f ? T{} : (t > 6.0f ? six : t);
    return x * t * (1.0f / 6.0f);
  }
  template <class T>
  SEXTANT_HD static T slope(T x) {
    const T one = T{} + 1.0f;
    return x < -3.0f ? T{} : (x > 3.0f ? one : x * (1.0f / 3.0f) + 0.5f);
  }
};

template <>
struct ActivationOf<Activation::kSigmoid> {
  static constexpr ActivationTraits kTraits{
      .never_negative = true, .exponential = true, .limit = 1.0f};
  template <class T>
  SEXTANT_HD static T value(T x) {
    return sigmoid(x);
  }
  template <class T>
  SEXTANT_HD static T slope(T x) {
    const T s = sigmoid(x);
    return s * (1.0f - s);
  }
};

template <>
struct ActivationOf<Activation::kMish> {
  static constexpr ActivationTraits kTraits{.exponential = true};
  template <class T>
  SEXTANT_HD static T value(T x) {
    return x * gate(x);
  }
  template <class T>
  SEXTANT_HD static T slope(T x) {
    const T t = gate(x);
    return t + x * (1.0f - t * t) * sigmoid(x);
  }
  // tanh(log(1 + e^x)) = (e^2x + 2 e^x) / (e^2x + 2 e^x + 2), finite for x <= 20
  template <class T>
  SEXTANT_HD static T gate(T x) {
    const T most = T{} + 20.0f;
    const T e = fast_exp(x > 20.0f ? most : x);
    const T n = e * (e + 2.0f);
    return n / (n + 2.0f);
  }
};

template <>
struct ActivationOf<Activation::kReLU6> {
  static constexpr ActivationTraits kTraits{.never_negative = true, .limit = 6.0f};
  template <class T>
  SEXTANT_HD static T value(T x) {
    const T six = T{} + 6.0f;
    return x > 0.0f ? (x > 6.0f ? six : x) : T{};
  }
  template <class T>
  SEXTANT_HD static T slope(T x) {
    const T one = T{} + 1.0f;
    return x > 0.0f ? (x < 6.0f ? one : T{}) : T{};
  }
};

template <>
struct ActivationOf<Activation::kHardSigmoid> {
  static constexpr ActivationTraits kTraits{.never_negative = true, .limit = 1.0f};
  template <class T>
  SEXTANT_HD static T value(T x) {
    const T one = T{} + 1.0f;
    const T t = x * (1.0f / 6.0f) + 0.5f;
    return t > 0.0f ? (t > 1.0f ? one : t) : T{};
  }
  template <class T>
  SEXTANT_HD static T slope(T x) {
    const T sixth = T{} + 1.0f / 6.0f;
    return x > -3.0f ? (x < 3.0f ? sixth : T{}) : T{};
  }
};

// --- derived from the list -----------------------------------------------------------------------

template <Activation A, class T>
SEXTANT_HD T activate(T x) {
  return ActivationOf<A>::value(x);
}
template <Activation A, class T>
SEXTANT_HD T activate_grad(T x) {
  return ActivationOf<A>::slope(x);
}

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
