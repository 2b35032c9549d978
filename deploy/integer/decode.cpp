// SPDX-License-Identifier: Apache-2.0
#include "deploy/integer/decode.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/parallel.h"

namespace sextant::deploy {
namespace {

template <class F>
InterpolatedTable make_table(int64_t first, int32_t bits, int64_t entries, int32_t result_bits,
                             const F& f) {
  InterpolatedTable t{first, bits, {}};
  for (int64_t i = 0; i < entries; ++i) {
    const double x = std::ldexp(static_cast<double>(first + (i << bits)), -kHeadBits);
    t.values.push_back(static_cast<int32_t>(std::nearbyint(std::ldexp(f(x), result_bits))));
  }
  return t;
}

int32_t saturated(int64_t v) {
  return static_cast<int32_t>(std::clamp<int64_t>(v, std::numeric_limits<int32_t>::min(),
                                                  std::numeric_limits<int32_t>::max()));
}

// The mean bin of a softmax over `bins` logits, in 2^-kHeadBits.
int64_t expected_bin(const int32_t* logits, int64_t bins, const InterpolatedTable& exp) {
  const int64_t largest = *std::max_element(logits, logits + bins);
  int64_t sum = 0, weighted = 0;
  for (int64_t i = 0; i < bins; ++i) {
    const int64_t e = exp.at(largest - logits[i]);
    sum += e;  // at least 2^24, from the largest logit
    weighted += e * i;
  }
  return ((weighted << kHeadBits) + sum / 2) / sum;
}

}  // namespace

const InterpolatedTable& sigmoid_table() {
  static const InterpolatedTable table =
      make_table(-(int64_t{16} << kHeadBits), kHeadBits - 5, 32 * 32 + 1, kResultBits,
                 [](double x) { return 1 / (1 + std::exp(-x)); });
  return table;
}

const InterpolatedTable& exp_table() {
  static const InterpolatedTable table = make_table(
      0, kHeadBits - 6, 17 * 64 + 1, 24, [](double x) { return x < 17 ? std::exp(-x) : 0.0; });
  return table;
}

void integer_decode(const IntegerDecode& p, int32_t* out) {
  const int64_t row = 5 + p.classes;
  const int64_t bins = p.reg_max + 1;
  const int64_t anchors = p.anchors();
  const InterpolatedTable& sigmoid = sigmoid_table();
  const InterpolatedTable& exp = exp_table();
  int64_t offset = 0;
  for (int l = 0; l < p.levels; ++l) {
    const IntegerDecodeLevel& level = p.level[l];
    const int64_t pixels = level.height * level.width;
    parallel_for(p.batch * pixels, 512, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t pixel = i % pixels;
        int32_t* y = out + (i / pixels * anchors + offset + pixel) * row;
        int64_t side[4];  // left, top, right, bottom
        for (int64_t k = 0; k < 4; ++k)
          side[k] = p.reg_max > 0 ? expected_bin(level.reg + (i * 4 + k) * bins, bins, exp)
                                  : level.reg[i * 4 + k];
        const int64_t x = (pixel % level.width << kHeadBits) + p.cell_offset;
        const int64_t yy = (pixel / level.width << kHeadBits) + p.cell_offset;
        const int64_t pixel_steps = level.stride << (kResultBits - kHeadBits);
        // the centre is half a sum: the pixel steps keep one bit for the halving
        y[0] = saturated((2 * x + side[2] - side[0]) * (pixel_steps / 2));
        y[1] = saturated((2 * yy + side[3] - side[1]) * (pixel_steps / 2));
        y[2] = saturated((side[0] + side[2]) * pixel_steps);
        y[3] = saturated((side[1] + side[3]) * pixel_steps);
        y[4] = level.obj ? sigmoid.at(level.obj[i]) : 1 << kResultBits;
        for (int64_t c = 0; c < p.classes; ++c) y[5 + c] = sigmoid.at(level.cls[i * p.classes + c]);
      }
    });
    offset += pixels;
  }
}

}  // namespace sextant::deploy
