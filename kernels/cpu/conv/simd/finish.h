// SPDX-License-Identifier: Apache-2.0
// What follows the sums of a block of channels where the micro-kernel does not do it itself: any
// activation, and blocks that end within a vector.
#pragma once

#include "kernels/cpu/conv/simd/tile.h"
#include "kernels/cpu/simd/choose.h"

SEXTANT_SIMD_BEGIN();
namespace sextant::kernels::cpu::SEXTANT_SIMD {

// The pixels that sums go to, and the residual's there.
struct FinishTarget {
  FinishTarget(const F32Operands& p, int64_t n, int64_t row, int64_t column, int64_t channel)
      : y(p.y.at(n, row, column) + channel),
        pixel(p.y.pixel),
        residual(p.residual.data ? p.residual.at(n, row, column) + channel : y),
        residual_pixel(p.residual.pixel) {}
  float* y;
  int64_t pixel;
  const float* residual;  // y, and not read, where there is none
  int64_t residual_pixel;
};

// What comes between a vector of sums and the result. `gain`: of these channels.
template <Activation A>
struct FinishVec {
  SEXTANT_SIMD_INLINE explicit FinishVec(const F32Operands& p)
      : before(p.residual.data && p.epilogue.residual_before_activation),
        after(p.residual.data && !p.epilogue.residual_before_activation),
        gained(p.gain != nullptr),
        scale(p.epilogue.residual_scale) {}
  SEXTANT_SIMD_INLINE static Vec gain_of(const F32Operands& p, int64_t channel, int64_t count) {
    return p.gain ? load_part(p.gain + channel, count) : Vec{};
  }
  SEXTANT_SIMD_INLINE Vec operator()(Vec v, const float* residual, Vec gain, int64_t count) const {
    if (before) v += scale * load_part(residual, count);
    v = activate<A>(v);
    if (gained) v *= gain;
    if (after) v += scale * load_part(residual, count);
    return v;
  }
  bool before, after, gained;
  float scale;
};

// Sums [pixels, vectors of the block] to where they belong.
using Finish = void (*)(const F32Operands& p, const float* sums, int64_t pixels,
                        const FinishTarget& t, Block block);

template <Activation A>
void finish_as(const F32Operands& p, const float* sums, int64_t pixels, const FinishTarget& t,
               Block block) {
  const FinishVec<A> finish(p);
  const int64_t pitch = block.width();
  for (int64_t c = 0; c < block.channels; c += kLanes) {
    const int64_t count = block.channels - c;
    const Vec bias = p.bias ? load_part(p.bias + block.first + c, count) : Vec{};
    const Vec gain = finish.gain_of(p, block.first + c, count);
    for (int64_t i = 0; i < pixels; ++i)
      store_part(t.y + i * t.pixel + c,
                 finish(load(sums + i * pitch + c) + bias, t.residual + i * t.residual_pixel + c,
                        gain, count),
                 count);
  }
}

template <Activation A>
struct FinishFor {
  static constexpr Finish value = finish_as<A>;
};
inline Finish finish_of(Activation act) { return choose<FinishFor>(act); }

}  // namespace sextant::kernels::cpu::SEXTANT_SIMD
SEXTANT_SIMD_END();
