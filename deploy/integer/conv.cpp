// SPDX-License-Identifier: Apache-2.0
#include "deploy/integer/conv.h"

#include <algorithm>

#include "core/parallel.h"

namespace sextant::deploy {
namespace {

template <class T>
int32_t dot(const T* x, const int8_t* w, int64_t n, int32_t x_zero, int32_t w_zero) {
  int32_t sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += (x[i] - x_zero) * (w[i] - w_zero);
  return sum;
}

}  // namespace

template <class T>
void integer_conv(const IntegerConv& p, const T* x, int64_t pitch, int32_t* sums) {
  const Shape& shape = p.weight.shape();
  const int64_t outputs = shape[0], kernel_h = shape[1], kernel_w = shape[2], inputs = shape[3];
  const int8_t* weight = p.weight.data<int8_t>();
  parallel_for(p.batch * p.out_height, 1, [&](int64_t begin, int64_t end) {
    for (int64_t line = begin; line < end; ++line) {
      const int64_t image = line / p.out_height;
      const int64_t top = line % p.out_height * p.stride - p.padding;
      for (int64_t ow = 0; ow < p.out_width; ++ow) {
        const int64_t left = ow * p.stride - p.padding;
        int32_t* out = sums + (line * p.out_width + ow) * outputs;
        for (int64_t o = 0; o < outputs; ++o) {
          const int64_t group = o / (outputs / p.groups);
          int32_t sum = 0;
          for (int64_t kh = 0; kh < kernel_h; ++kh)
            for (int64_t kw = 0; kw < kernel_w; ++kw) {
              const int64_t h = top + kh, w = left + kw;
              if (h < 0 || w < 0 || h >= p.height || w >= p.width) continue;
              sum += dot(x + ((image * p.height + h) * p.width + w) * pitch + group * inputs,
                         weight + ((o * kernel_h + kh) * kernel_w + kw) * inputs, inputs,
                         p.zero_point, p.weight_zero_point);
            }
          out[o] = sum;
        }
      }
    }
  });
}
template void integer_conv(const IntegerConv&, const uint8_t*, int64_t, int32_t*);
template void integer_conv(const IntegerConv&, const int8_t*, int64_t, int32_t*);

int64_t largest_sum(const IntegerConv& p, int32_t low, int32_t high) {
  const int64_t outputs = p.weight.dim(0);
  const int64_t n = p.weight.numel() / outputs;
  const int8_t* weight = p.weight.data<int8_t>();
  int64_t largest = 0;
  for (int64_t o = 0; o < outputs; ++o) {
    int64_t positive = 0, negative = 0;
    for (int64_t i = 0; i < n; ++i) {
      const int64_t w = weight[o * n + i] - p.weight_zero_point;
      (w > 0 ? positive : negative) += w;
    }
    const int64_t up = high - p.zero_point, down = low - p.zero_point;
    largest =
        std::max({largest, positive * up + negative * down, -(positive * down + negative * up)});
  }
  return largest;
}

}  // namespace sextant::deploy
