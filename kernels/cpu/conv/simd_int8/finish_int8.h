// SPDX-License-Identifier: Apache-2.0
// What follows the integer sums of a block of channels (kernels/conv_int8.h).
#pragma once

#include "kernels/cpu/conv/int8.h"
#include "kernels/cpu/conv/simd_int8/dot.h"
#include "kernels/cpu/simd/choose.h"

SEXTANT_SIMD_BEGIN();
namespace sextant::kernels::cpu::SEXTANT_SIMD {

using VecBytes = int8_t __attribute__((vector_size(kLanes)));
using VecUBytes = uint8_t __attribute__((vector_size(kLanes)));

SEXTANT_SIMD_INLINE Vec to_floats(VecI v) { return __builtin_convertvector(v, Vec); }

// Bytes to 32-bit integers. GCC converts such vectors one by one, hence the intrinsics here and below.
SEXTANT_SIMD_INLINE VecI widened(VecBytes v) {
#if defined(SEXTANT_SIMD_512)
  return std::bit_cast<VecI>(_mm512_cvtepi8_epi32(std::bit_cast<__m128i>(v)));
#elif defined(SEXTANT_SIMD_256)
  return std::bit_cast<VecI>(_mm256_cvtepi8_epi32(_mm_cvtsi64_si128(std::bit_cast<int64_t>(v))));
#else
  return __builtin_convertvector(v, VecI);
#endif
}
SEXTANT_SIMD_INLINE VecI widened(VecUBytes v) {
#if defined(SEXTANT_SIMD_512)
  return std::bit_cast<VecI>(_mm512_cvtepu8_epi32(std::bit_cast<__m128i>(v)));
#elif defined(SEXTANT_SIMD_256)
  return std::bit_cast<VecI>(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(std::bit_cast<int64_t>(v))));
#else
  return __builtin_convertvector(v, VecI);
#endif
}

// A vector of bytes at p to 32-bit integers; the first `count`, the rest zeros.
template <class Y>
SEXTANT_SIMD_INLINE VecI load_bytes(const Y* p) {
  std::conditional_t<std::is_signed_v<Y>, VecBytes, VecUBytes> v;
  std::memcpy(&v, p, kLanes);
  return widened(v);
}
template <class Y>
SEXTANT_SIMD_INLINE VecI load_bytes(const Y* p, int64_t count) {
  if (count >= kLanes) return load_bytes(p);
  std::conditional_t<std::is_signed_v<Y>, VecBytes, VecUBytes> v = {};
#if defined(SEXTANT_SIMD_512)
  v = std::bit_cast<decltype(v)>(_mm_maskz_loadu_epi8(static_cast<__mmask16>((1 << count) - 1), p));
#else
  for (int64_t i = 0; i < count; ++i) v[i] = p[i];
#endif
  return widened(v);
}

// `count` values, at most a vector, the rest zeros.
SEXTANT_SIMD_INLINE Vec load_floats(const float* p, int64_t count) { return load_part(p, count); }
template <class Y>
SEXTANT_SIMD_INLINE Vec load_floats(const Y* p, int64_t count) {
  return to_floats(load_bytes(p, count));
}

SEXTANT_SIMD_INLINE Vec clamped(Vec v, float low, float high) {
#if defined(SEXTANT_SIMD_512)
  return _mm512_min_ps(_mm512_max_ps(v, splat(low)), splat(high));
#elif defined(SEXTANT_SIMD_256)
  return _mm256_min_ps(_mm256_max_ps(v, splat(low)), splat(high));
#else
  v = v > low ? v : splat(low);
  return v < high ? v : splat(high);
#endif
}

// To the nearest integers, half-way ones to the even, of numbers within the range of bytes.
SEXTANT_SIMD_INLINE VecBytes round_to_bytes(Vec v) {
#if defined(SEXTANT_SIMD_512)
  return std::bit_cast<VecBytes>(_mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v)));
#elif defined(SEXTANT_SIMD_256)
  // The lowest byte of each integer, then those of both halves together.
  const __m256i bytes = _mm256_shuffle_epi8(
      _mm256_cvtps_epi32(v),
      _mm256_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,  //
                       -1, -1, -1, -1, 0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1));
  return std::bit_cast<VecBytes>(_mm_cvtsi128_si64(
      _mm_or_si128(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1))));
#else
  // Behind the addition the lowest bit of the mantissa stands for 1.
  constexpr float kMagic = 12582912.0f;  // 3 * 2^22
  return __builtin_convertvector(std::bit_cast<VecI>(v + kMagic) - 0x4B400000, VecBytes);
#endif
}
template <class Y>
SEXTANT_SIMD_INLINE void store_bytes(Y* to, VecBytes v, int64_t count) {
  if (count >= kLanes) {
    std::memcpy(to, &v, kLanes);
    return;
  }
#if defined(SEXTANT_SIMD_512)
  _mm_mask_storeu_epi8(to, static_cast<__mmask16>((1 << count) - 1), std::bit_cast<__m128i>(v));
#else
  for (int64_t i = 0; i < count; ++i) to[i] = static_cast<Y>(v[i]);
#endif
}

// a * b + c, rounded once.
SEXTANT_SIMD_INLINE Vec fused(float a, Vec b, Vec c) {
#if defined(SEXTANT_SIMD_512)
  return _mm512_fmadd_ps(splat(a), b, c);
#elif defined(SEXTANT_SIMD_256)
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
  SEXTANT_SIMD_INLINE Requantizer(const Int8Operands& p, bool has_residual)
      : before(has_residual && p.epilogue.residual_before_activation),
        after(has_residual && !p.epilogue.residual_before_activation),
        residual_scale(p.epilogue.residual_scale) {}

  SEXTANT_SIMD_INLINE void operator()(VecI sum, const ChannelScales& s, const Y* residual, Y* y,
                                      int64_t count) const {
    Vec v = (to_floats(sum) + s.bias) * s.factor;
    if (before) v = fused(residual_scale, load_floats(residual, count), v);
    v = activate<A>(v) * s.after;
    if (after) v = fused(residual_scale, load_floats(residual, count), v);
    if constexpr (std::is_same_v<Y, float>) {
      store_part(y, v, count);
    } else {
      constexpr float kLow = std::is_signed_v<Y> ? -128.0f : 0.0f;
      constexpr float kHigh = std::is_signed_v<Y> ? 127.0f : 255.0f;
      store_bytes(y, round_to_bytes(clamped(v, kLow, kHigh)), count);
    }
  }
  bool before, after;
  float residual_scale;
};
// Sums as they are.
struct SumKeeper {
  SEXTANT_SIMD_INLINE SumKeeper(const Int8Operands&, bool) {}
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

// Sums of a block of channels: rows of `columns` pixels.
struct BlockSums {
  const int32_t* data;
  int64_t rows, columns, row, pixel;
};

// Sums to where they go.
using Finish = void (*)(const Int8Operands& p, const BlockSums& sums, const Int8Target& t,
                        Block block);
template <class F, class Y>
SEXTANT_SIMD_INLINE void finish_vector(const F& finish, const Int8Operands& p,
                                       const BlockSums& sums, const Int8Target& t,
                                       const ChannelScales& scales, int64_t c, int64_t count) {
  // In registers: a store of bytes might change what the references refer to.
  const int64_t columns = sums.columns, pixel = sums.pixel;
  const int64_t y_pixel = p.y_at.pixel, residual_pixel = p.residual_at.pixel;
  for (int64_t i = 0; i < sums.rows; ++i) {
    const int32_t* from = sums.data + i * sums.row + c;
    Y* y = static_cast<Y*>(p.y) + t.y + i * p.y_at.row + c;
    const Y* residual = static_cast<const Y*>(p.residual ? p.residual : p.y) + t.residual +
                        i * p.residual_at.row + c;
    for (int64_t j = 0; j < columns; ++j) {
      finish(load_ints(from), scales, residual, y, count);
      from += pixel;
      y += y_pixel;
      residual += residual_pixel;
    }
  }
}
template <class F, class Y>
void finish_sums(const Int8Operands& p, const BlockSums& sums, const Int8Target& t, Block block) {
  for (int64_t c = 0; c < block.channels; c += kLanes) {
    const int64_t count = block.channels - c;
    const ChannelScales scales(p, block.first + c, count);
    if (count >= kLanes && !p.residual)  // what most are, without a condition for each pixel
      finish_vector<F, Y>(F(p, false), p, sums, t, scales, c, kLanes);
    else
      finish_vector<F, Y>(F(p, p.residual != nullptr), p, sums, t, scales, c, count);
  }
}
template <class F, class Y>
struct FinishSums {
  static constexpr Finish value = finish_sums<F, Y>;
};

}  // namespace sextant::kernels::cpu::SEXTANT_SIMD
SEXTANT_SIMD_END();
