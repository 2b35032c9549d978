// SPDX-License-Identifier: Apache-2.0
// Decodes the head's integers to boxes and scores, in integers only.
//
// In: logits and distances in steps of 2^-kHeadBits (a logit; a cell). Out, per anchor: cx cy w h
// in pixels, objectness (1 without), scores, all in steps of 2^-kResultBits, saturated to 32 bits.
// Sigmoid and exponential are tables with linear interpolation: within 2e-5 of a score and of a
// bin's probability.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "kernels/detection/anchors.h"

namespace sextant::deploy {

inline constexpr int32_t kHeadBits = 12;
inline constexpr int32_t kResultBits = 16;

// A function tabulated over [first, first + (entries - 1) * 2^bits] at every 2^bits: linear in
// between, constant beyond the ends.
struct InterpolatedTable {
  int64_t first = 0;
  int32_t bits = 0;
  std::vector<int32_t> values;

  int32_t at(int64_t x) const {
    const int64_t last = static_cast<int64_t>(values.size()) - 1;
    const int64_t d = x - first;
    if (d <= 0) return values.front();
    if (d >= last << bits) return values.back();
    const int64_t i = d >> bits;
    const int64_t rest = d & ((int64_t{1} << bits) - 1);
    const int64_t half = (int64_t{1} << bits) >> 1;
    return static_cast<int32_t>(values[i] + (((values[i + 1] - values[i]) * rest + half) >> bits));
  }
};

// sigmoid(x / 2^kHeadBits) in 2^-kResultBits, |x| up to 16.
const InterpolatedTable& sigmoid_table();
// exp(-x / 2^kHeadBits) in 2^-24 for x >= 0; 0 from 17 on.
const InterpolatedTable& exp_table();

struct IntegerDecodeLevel {
  const int32_t* cls = nullptr;  // [N,H,W,classes]
  const int32_t* reg = nullptr;  // [N,H,W,4 max(1, reg_max + 1)]
  int64_t height = 0, width = 0;
  int64_t stride = 1;            // pixels per cell
  const int32_t* obj = nullptr;  // [N,H,W,1]; null: every objectness is 1
};

struct IntegerDecode {
  std::array<IntegerDecodeLevel, kernels::kMaxLevels> level;
  int levels = 0;
  int64_t batch = 0;
  int64_t classes = 0;
  int64_t reg_max = 0;                         // 0: plain distances
  int64_t cell_offset = 1 << (kHeadBits - 1);  // of a cell's centre from its corner; 2^-kHeadBits

  int64_t anchors() const {
    int64_t n = 0;
    for (int l = 0; l < levels; ++l) n += level[l].height * level[l].width;
    return n;
  }
};

// out [N, anchors, 5 + classes], as kernels/detection/decode.h computes it in float.
void integer_decode(const IntegerDecode& p, int32_t* out);

}  // namespace sextant::deploy
