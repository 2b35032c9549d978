// SPDX-License-Identifier: Apache-2.0
// What follows the integer sums of a block of channels (kernels/conv_int8.h).
#pragma once

#include "kernels/cpu/conv/int8.h"
#include "kernels/cpu/conv/simd/choose.h"
#include "kernels/cpu/conv/simd_int8/dot.h"

SEXTANT_SIMD_BEGIN();
namespace sextant::kernels::cpu::SEXTANT_SIMD {

using VecBytes = int8_t __attribute__((vector_size(kLanes)));
using VecUBytes = uint8_t __attribute__((vector_size(kLanes)));

SEXTANT_SIMD_INLINE Vec to_floats(VecI v) { return __builtin_convertvector(v, Vec); }

// `count` bytes, at most a vector of them, whole vectors at once.
SEXTANT_SIMD_INLINE void copy_bytes(void* to, const void* from, int64_t count) {
  if (count >= kLanes)
    std::memcpy(to, from, kLanes);
  else
    std::memcpy(to, from, static_cast<size_t>(count));
}

// `count` values, at most a vector, the rest zeros.
SEXTANT_SIMD_INLINE Vec load_floats(const float* p, int64_t count) {
  if (count >= kLanes) return load(p);
  Vec v = {};
  for (int64_t i = 0; i < count; ++i) v[i] = p[i];
  return v;
}
SEXTANT_SIMD_INLINE Vec load_floats(const int8_t* p, int64_t count) {
  VecBytes v = {};
  copy_bytes(&v, p, count);
  return to_floats(__builtin_convertvector(v, VecI));
}
SEXTANT_SIMD_INLINE Vec load_floats(const uint8_t* p, int64_t count) {
  VecUBytes v = {};
  copy_bytes(&v, p, count);
  return to_floats(__builtin_convertvector(v, VecI));
}

// Numbers within +-2^22 to the nearest integer, half-way ones to the even: behind the addition the
// lowest bit of the mantissa stands for 1.
SEXTANT_SIMD_INLINE VecI round_to_ints(Vec v) {
  constexpr float kMagic = 12582912.0f;  // 3 * 2^22
  const Vec shifted = v + kMagic;
  return reinterpret_cast<VecI>(shifted) - 0x4B400000;
}

// Integers within the type's range to bytes.
template <class Y>
SEXTANT_SIMD_INLINE void store_bytes(Y* to, VecI v, int64_t count) {
#if defined(SEXTANT_SIMD_AVX2) || defined(SEXTANT_SIMD_AVX2_VNNI)
  const __m128i low = _mm256_castsi256_si128(reinterpret_cast<__m256i>(v));
  const __m128i high = _mm256_extracti128_si256(reinterpret_cast<__m256i>(v), 1);
  const __m128i words = _mm_packs_epi32(low, high);
  const __m128i bytes =
      std::is_signed_v<Y> ? _mm_packs_epi16(words, words) : _mm_packus_epi16(words, words);
  copy_bytes(to, &bytes, count);
#else
  const VecBytes bytes = __builtin_convertvector(v, VecBytes);
  copy_bytes(to, &bytes, count);
#endif
}

// a * b + c, rounded once.
SEXTANT_SIMD_INLINE Vec fused(float a, Vec b, Vec c) {
#if defined(SEXTANT_SIMD_AVX512) || defined(SEXTANT_SIMD_AVX512_VNNI)
  return _mm512_fmadd_ps(splat(a), b, c);
#elif defined(SEXTANT_SIMD_AVX2) || defined(SEXTANT_SIMD_AVX2_VNNI)
  return _mm256_fmadd_ps(splat(a), b, c);
#else
  for (int i = 0; i < kLanes; ++i) c[i] = __builtin_fmaf(a, b[i], c[i]);
  return c;
#endif
}

// Of channels [first, first + count) of a block: bias, factor, and what the activation's result is
// times.
struct ChannelScales {
  SEXTANT_SIMD_INLINE ChannelScales(const Int8Operands& p, int64_t first, int64_t count)
      : bias(p.bias ? load_floats(p.bias + first, count) : Vec{}),
        factor(p.factor ? load_floats(p.factor + first, count) : Vec{}),
        after(splat(p.epilogue.activation_scale)) {
    if (p.gain) after *= load_floats(p.gain + first, count);
  }
  Vec bias, factor, after;
};

// The result of sums of one pixel and vector of channels.
template <Activation A, class Y>
struct Requantizer {
  SEXTANT_SIMD_INLINE explicit Requantizer(const Int8Operands& p)
      : before(p.residual && p.epilogue.residual_before_activation),
        after(p.residual && !p.epilogue.residual_before_activation),
        residual_scale(p.epilogue.residual_scale) {}

  SEXTANT_SIMD_INLINE void operator()(VecI sum, const ChannelScales& s, const Y* residual, Y* y,
                                      int64_t count) const {
    Vec v = (to_floats(sum) + s.bias) * s.factor;
    if (before) v = fused(residual_scale, load_floats(residual, count), v);
    v = activate<A>(v) * s.after;
    if (after) v = fused(residual_scale, load_floats(residual, count), v);
    if constexpr (std::is_same_v<Y, float>) {
      if (count >= kLanes) return store(y, v);
      for (int64_t i = 0; i < count; ++i) y[i] = v[i];
    } else {
      constexpr float kLow = std::is_signed_v<Y> ? -128.0f : 0.0f;
      constexpr float kHigh = std::is_signed_v<Y> ? 127.0f : 255.0f;
      v = v < kLow ? splat(kLow) : v;
      v = v > kHigh ? splat(kHigh) : v;
      store_bytes(y, round_to_ints(v), count);
    }
  }
  bool before, after;
  float residual_scale;
};
// Sums as they are.
struct SumKeeper {
  SEXTANT_SIMD_INLINE explicit SumKeeper(const Int8Operands&) {}
  SEXTANT_SIMD_INLINE void operator()(VecI sum, const ChannelScales&, const int32_t*, int32_t* y,
                                      int64_t count) const {
    if (count >= kLanes) return store_ints(y, sum);
    for (int64_t i = 0; i < count; ++i) y[i] = sum[i];
  }
};

// Where pixels of a block go: elements of y's type from the start of y, and of the residual.
struct Int8Target {
  Int8Target(const Int8Operands& p, int64_t n, int64_t row, int64_t column, int64_t channel)
      : y(p.y_at.at(n, row, column) + channel),
        residual(p.residual ? p.residual_at.at(n, row, column) + channel : 0) {}
  int64_t y, residual;
};

// Calls For<Finish, Y>::value(...) ... by the operands: the function of type F that For makes for
// each way to finish and each type of y.
template <template <class Finisher, class Y> class For>
struct ForFinish {
  template <Activation A>
  struct ToI8 {
    static constexpr auto value = For<Requantizer<A, int8_t>, int8_t>::value;
  };
  template <Activation A>
  struct ToU8 {
    static constexpr auto value = For<Requantizer<A, uint8_t>, uint8_t>::value;
  };
  template <Activation A>
  struct ToF32 {
    static constexpr auto value = For<Requantizer<A, float>, float>::value;
  };

  static auto of(const Int8Operands& p) {
    const Activation act = p.epilogue.activation;
    if (p.y_type == DType::kI32) return For<SumKeeper, int32_t>::value;
    if (p.y_type == DType::kF32) return choose<ToF32>(act);
    return p.y_type == DType::kU8 ? choose<ToU8>(act) : choose<ToI8>(act);
  }
};

}  // namespace sextant::kernels::cpu::SEXTANT_SIMD
SEXTANT_SIMD_END();
