// The activation functions, one definition for the CPU, CUDA and the quantized simulation.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <string>

// Functions that nvcc also compiles for the device.
#if defined(__CUDACC__)
#define SEXTANT_HD __host__ __device__ __forceinline__
#else
#define SEXTANT_HD inline
#endif
// A pragma of OpenMP in such a function: for the host's compiler only.
#if defined(__CUDACC__)
#define SEXTANT_OMP(...)
#else
#define SEXTANT_OMP(...) _Pragma(#__VA_ARGS__)
#endif

namespace sextant {

enum class Activation : int { kIdentity, kReLU, kLeakyReLU, kSiLU, kHardswish, kSigmoid, kMish };

// "identity", "relu", "leaky_relu", "silu", "hardswish", "sigmoid", "mish".
const char* name_of(Activation a);
// Throws for another name.
Activation activation_from_name(const std::string& name);

namespace kernels {

inline constexpr float kLeakySlope = 0.01f;  // PyTorch's default negative_slope

// e^x within 2 ulp on [-87, 88], clamped outside; branch-free, so that loops over it vectorise.
// Range reduction by ln 2 in two parts and a degree-6 polynomial (Cephes expf).
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

SEXTANT_HD float sigmoid(float x) { return 1.0f / (1.0f + fast_exp(-x)); }

template <Activation A>
SEXTANT_HD float activate(float x) {
  if constexpr (A == Activation::kReLU) return x > 0.0f ? x : 0.0f;
  if constexpr (A == Activation::kLeakyReLU) return x > 0.0f ? x : kLeakySlope * x;
  if constexpr (A == Activation::kSiLU) return x * sigmoid(x);
  if constexpr (A == Activation::kHardswish) {
    const float t = x + 3.0f;
    return x * (t < 0.0f ? 0.0f : (t > 6.0f ? 6.0f : t)) * (1.0f / 6.0f);
  }
  if constexpr (A == Activation::kSigmoid) return sigmoid(x);
  if constexpr (A == Activation::kMish) {
    // tanh(log(1 + e^x)) = (e^2x + 2 e^x) / (e^2x + 2 e^x + 2), finite for x <= 20
    const float e = fast_exp(x > 20.0f ? 20.0f : x);
    const float n = e * (e + 2.0f);
    return x * (n / (n + 2.0f));
  }
  return x;
}

// d activate(x) / dx at x; at a kink the value PyTorch takes (ReLU'(0) = 0).
template <Activation A>
SEXTANT_HD float activate_grad(float x) {
  if constexpr (A == Activation::kReLU) return x > 0.0f ? 1.0f : 0.0f;
  if constexpr (A == Activation::kLeakyReLU) return x > 0.0f ? 1.0f : kLeakySlope;
  if constexpr (A == Activation::kSiLU) {
    const float s = sigmoid(x);
    return s * (1.0f + x * (1.0f - s));
  }
  if constexpr (A == Activation::kHardswish)
    return x < -3.0f ? 0.0f : (x > 3.0f ? 1.0f : x * (1.0f / 3.0f) + 0.5f);
  if constexpr (A == Activation::kSigmoid) {
    const float s = sigmoid(x);
    return s * (1.0f - s);
  }
  if constexpr (A == Activation::kMish) {
    const float e = fast_exp(x > 20.0f ? 20.0f : x);
    const float n = e * (e + 2.0f);
    const float t = n / (n + 2.0f);
    return t + x * (1.0f - t * t) * sigmoid(x);
  }
  return 1.0f;
}

// Calls f(ActivationTag<A>{}), the activation as a compile-time constant.
template <Activation A>
struct ActivationTag {
  static constexpr Activation value = A;
};
template <class F>
void dispatch_activation(Activation a, F&& f) {
  switch (a) {
    case Activation::kIdentity:
      return f(ActivationTag<Activation::kIdentity>{});
    case Activation::kReLU:
      return f(ActivationTag<Activation::kReLU>{});
    case Activation::kLeakyReLU:
      return f(ActivationTag<Activation::kLeakyReLU>{});
    case Activation::kSiLU:
      return f(ActivationTag<Activation::kSiLU>{});
    case Activation::kHardswish:
      return f(ActivationTag<Activation::kHardswish>{});
    case Activation::kSigmoid:
      return f(ActivationTag<Activation::kSigmoid>{});
    case Activation::kMish:
      return f(ActivationTag<Activation::kMish>{});
  }
}

}  // namespace kernels
}  // namespace sextant
