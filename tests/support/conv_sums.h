// SPDX-License-Identifier: Apache-2.0
// The sums of an integer convolution from their definition.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/conv.h"

namespace sextant::test {

// x [n,h,w,ic], w [oc,kh,kw,ic / groups] -> [n,oh,ow,oc], in 64 bits.
inline std::vector<int64_t> sums_of(const kernels::ConvShape& s, const std::vector<int>& x,
                                    const std::vector<int>& w) {
  const int64_t inputs = s.ic / s.groups, outputs = s.oc / s.groups;
  std::vector<int64_t> y;
  for (int64_t n = 0; n < s.n; ++n)
    for (int64_t oy = 0; oy < s.oh(); ++oy)
      for (int64_t ox = 0; ox < s.ow(); ++ox)
        for (int64_t o = 0; o < s.oc; ++o) {
          int64_t sum = 0;
          for (int64_t ky = 0; ky < s.kh; ++ky)
            for (int64_t kx = 0; kx < s.kw; ++kx) {
              const int64_t iy = oy * s.stride - s.pad + ky, ix = ox * s.stride - s.pad + kx;
              if (iy < 0 || iy >= s.h || ix < 0 || ix >= s.w) continue;
              for (int64_t c = 0; c < inputs; ++c)
                sum += int64_t{x[static_cast<size_t>(((n * s.h + iy) * s.w + ix) * s.ic +
                                                     o / outputs * inputs + c)]} *
                       w[static_cast<size_t>(((o * s.kh + ky) * s.kw + kx) * inputs + c)];
            }
          y.push_back(sum);
        }
  return y;
}

}  // namespace sextant::test
