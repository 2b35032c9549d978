// SPDX-License-Identifier: Apache-2.0
// int8 convolution: the product of kernels/cuda/conv/tile.cuh on s8 or u8 by s8, and an epilogue
// that rounds exactly as kernels/conv_int8.h says.
#include "kernels/conv_int8.h"
#include "kernels/cuda/conv/depthwise.cuh"

namespace sextant::kernels::cuda {
namespace {

struct Int8Epilogue {
  void* y;
  const void* residual;
  const float* bias;
  const float* factor;
  const float* gain;
  DType y_type;
  Activation activation;
  EpilogueSteps steps;
  int y_pitch, residual_pitch;
  bool packed;

  // Calls f with a value of y's type.
  template <class F>
  __device__ __forceinline__ void with_type(const F& f) const {
    if (y_type == DType::kI8)
      f(int8_t{});
    else if (y_type == DType::kU8)
      f(uint8_t{});
    else
      f(float{});
  }
  template <class T>
  __device__ __forceinline__ static T stored(float v) {
    if constexpr (std::is_same_v<T, float>) {
      return v;
    } else {
      constexpr float kLow = std::is_signed_v<T> ? -128.0f : 0.0f;
      constexpr float kHigh = std::is_signed_v<T> ? 127.0f : 255.0f;
      v = rintf(v);
      return static_cast<T>(v < kLow ? kLow : (v > kHigh ? kHigh : v));
    }
  }
  // Only what is loaded and stored depends on the type: the arithmetic is there once.
  __device__ __forceinline__ void write(int, int64_t pixel, int j, int columns,
                                        const EightColumns<int>& sums) const {
    float r[8]{}, v[8];
    if (residual)
      with_type([&](auto zero) {
        using T = decltype(zero);
        const auto before = load_eight(static_cast<const T*>(residual) + pixel * residual_pitch + j,
                                       columns, packed);
#pragma unroll
        for (int e = 0; e < 8; ++e) r[e] = static_cast<float>(before.v[e]);
      });
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      v[e] = static_cast<float>(sums.v[e]);
      if (bias && e < columns) v[e] += bias[j + e];
      v[e] = steps.before(rounded_product(v[e], e < columns ? factor[j + e] : 0.0f), r[e]);
    }
    activate_eight(activation, v);
#pragma unroll
    for (int e = 0; e < 8; ++e)
      v[e] = steps.after(v[e], r[e], gain && e < columns ? gain[j + e] : 1.0f);
    with_type([&](auto zero) {
      using T = decltype(zero);
      Eight<T> out;
#pragma unroll
      for (int e = 0; e < 8; ++e) out.v[e] = stored<T>(v[e]);
      store_eight(static_cast<T*>(y) + pixel * y_pitch + j, out, columns, packed);
    });
  }
};

bool packed_as(DType type, const void* p, int64_t channels) {
  if (type == DType::kF32) return packs_of_eight(static_cast<const float*>(p), channels);
  return packs_of_eight(static_cast<const int8_t*>(p), channels);
}

template <class Math>
void forward(const ConvInt8Forward& p, Stream stream) {
  using X = typename Math::Element;
  const ConvShape& s = p.shape;
  const auto* x = static_cast<const X*>(p.x);
  const int64_t k = s.kh * s.kw * s.ic;
  const int64_t x_pitch = pitch_or("conv_int8_forward", "x", p.x_pitch, s.ic);
  const int64_t y_pitch = pitch_or("conv_int8_forward", "y", p.y_pitch, s.oc);
  const int64_t r_pitch = pitch_or("conv_int8_forward", "residual", p.residual_pitch, s.oc);
  const Int8Epilogue epilogue{
      .y = p.y,
      .residual = p.residual,
      .bias = p.bias,
      .factor = p.factor,
      .gain = p.gain,
      .y_type = p.y_type,
      .activation = p.epilogue.activation,
      .steps = {p.epilogue, p.residual != nullptr},
      .y_pitch = static_cast<int>(y_pitch),
      .residual_pitch = static_cast<int>(r_pitch),
      .packed = packed_as(p.y_type, p.y, std::gcd(s.oc, y_pitch)) &&
                (!p.residual || packed_as(p.y_type, p.residual, std::gcd(s.oc, r_pitch)))};
  if (is_depthwise(s))
    return run_depthwise<X, int8_t, int>("conv_int8_forward", s, x, p.w, x_pitch, epilogue, stream);
  const PixelsByTaps<X> a{{x, piece_of(x, std::gcd(s.ic, x_pitch)), input_gather(s, x_pitch)}};
  const Matrix<int8_t, true> b{p.w, piece_of(p.w, k), static_cast<int>(s.oc), static_cast<int>(k),
                               k};
  run_product<Math>(
      a, b, epilogue,
      {a.s.pixels, static_cast<int>(s.oc), static_cast<int>(k), 0, static_cast<int>(k)}, 1, stream);
}

}  // namespace

void conv_int8_forward(const ConvInt8Forward& p, void*, Stream stream) {
  const ConvShape& s = p.shape;
  check_conv_shape("conv_int8_forward", s);
  check(s.kh * s.kw * (s.ic / s.groups) <= 65536,
        "conv_int8_forward: weight [{},{},{},{}]: more than 65536 terms", s.oc, s.kh, s.kw,
        s.ic / s.groups);
  check(p.y_type == DType::kI8 || p.y_type == DType::kU8 || p.y_type == DType::kF32,
        "conv_int8_forward: y is {}, must be I8, U8 or F32", name_of(p.y_type));
  if (p.x_type == DType::kI8) return forward<S8Math>(p, stream);
  check(p.x_type == DType::kU8, "conv_int8_forward: x is {}, must be I8 or U8", name_of(p.x_type));
  forward<U8Math>(p, stream);
}

}  // namespace sextant::kernels::cuda
