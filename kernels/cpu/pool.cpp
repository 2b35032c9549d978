// SPDX-License-Identifier: Apache-2.0
#include "kernels/pool.h"

#include <algorithm>
#include <cstddef>
#include <vector>

#include "core/parallel.h"
#include "kernels/cpu/f32_only.h"

namespace sextant::kernels::SEXTANT_CPU {

void max_pool_forward(const MaxPoolForward& p) {
  check_f32("max_pool_forward", p.dtype);
  const int64_t oh = p.oh(), ow = p.ow();
  parallel_for(p.n * oh, 1, [&](int64_t begin, int64_t end) {
    std::vector<int32_t> winner(static_cast<size_t>(p.c));
    for (int64_t r = begin; r < end; ++r) {
      const int64_t image = r / oh, i = r % oh;
      const int64_t y0 = std::max<int64_t>(0, i * p.stride - p.pad);
      const int64_t y1 = std::min(p.h, i * p.stride - p.pad + p.kernel);
      for (int64_t j = 0; j < ow; ++j) {
        const int64_t x0 = std::max<int64_t>(0, j * p.stride - p.pad);
        const int64_t x1 = std::min(p.w, j * p.stride - p.pad + p.kernel);
        float* out = f32(p.y) + (r * ow + j) * p.c;
        int32_t* win = winner.data();
        bool first = true;
        for (int64_t y = y0; y < y1; ++y)
          for (int64_t x = x0; x < x1; ++x) {
            const float* in = f32(p.x) + ((image * p.h + y) * p.w + x) * p.c;
            const auto at = static_cast<int32_t>(y * p.w + x);
            if (first) {
              std::copy_n(in, p.c, out);
              std::fill_n(win, p.c, at);
              first = false;
              continue;
            }
#pragma omp simd
            for (int64_t c = 0; c < p.c; ++c) {
              const bool better = in[c] > out[c];
              win[c] = better ? at : win[c];
              out[c] = better ? in[c] : out[c];
            }
          }
        if (p.index) std::copy_n(win, p.c, p.index + (r * ow + j) * p.c);
      }
    }
  });
}

void max_pool_backward(const MaxPoolBackward& p) {
  check_f32("max_pool_backward", p.dtype);
  const float* dy = f32(p.dy);
  // Windows overlap, so a whole image's channel block belongs to one thread.
  parallel_for(p.n, 1, [&](int64_t begin, int64_t end) {
    for (int64_t image = begin; image < end; ++image) {
      float* dx = f32(p.dx) + image * p.h * p.w * p.c;
      if (!p.accumulate) std::fill_n(dx, p.h * p.w * p.c, 0.0f);
      const int64_t from = image * p.oh * p.ow;
      for (int64_t o = from; o < from + p.oh * p.ow; ++o)
        for (int64_t c = 0; c < p.c; ++c) dx[p.index[o * p.c + c] * p.c + c] += dy[o * p.c + c];
    }
  });
}

void chained_max_pools(const ChainedMaxPools& p) {
  check_f32("chained_max_pools", p.dtype);
  const void* x = p.x;
  for (int i = 0; i < 3; ++i) {
    max_pool_forward(
        {p.n, p.h, p.w, p.c, p.kernel, 1, p.kernel / 2, x, p.y[i], p.index[i], p.dtype});
    x = p.y[i];
  }
}

void average_pool(const AveragePool& p) {
  check_f32("average_pool", p.dtype);
  const int64_t half = p.kernel / 2, line = p.w * p.c;
  const float factor = 1.0f / static_cast<float>(p.kernel * p.kernel);
  parallel_for(p.n * p.h, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> column(static_cast<size_t>(line));  // sums over the rows of a window
    for (int64_t r = begin; r < end; ++r) {
      const int64_t image = r / p.h, i = r % p.h;
      std::fill(column.begin(), column.end(), 0.0f);
      float* sums = column.data();
      for (int64_t y = std::max<int64_t>(0, i - half); y <= std::min(p.h - 1, i + half); ++y) {
        const float* in = f32(p.x) + (image * p.h + y) * line;
#pragma omp simd
        for (int64_t k = 0; k < line; ++k) sums[k] += in[k];
      }
      for (int64_t j = 0; j < p.w; ++j) {
        float* out = f32(p.y) + r * line + j * p.c;
        std::fill_n(out, p.c, 0.0f);
        for (int64_t x = std::max<int64_t>(0, j - half); x <= std::min(p.w - 1, j + half); ++x) {
          const float* in = sums + x * p.c;
#pragma omp simd
          for (int64_t c = 0; c < p.c; ++c) out[c] += in[c];
        }
#pragma omp simd
        for (int64_t c = 0; c < p.c; ++c) out[c] *= factor;
      }
    }
  });
}

void upsample_forward(const Upsample& p) {
  check_f32("upsample_forward", p.dtype);
  parallel_for(p.n * p.h * p.scale, 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      for (int64_t j = 0; j < p.w * p.scale; ++j)
        std::copy_n(f32(p.from) + ((r / p.scale) * p.w + j / p.scale) * p.c, p.c,
                    f32(p.to) + (r * p.w * p.scale + j) * p.c);
  });
}

void upsample_backward(const Upsample& p) {
  check_f32("upsample_backward", p.dtype);
  parallel_for(p.n * p.h, 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      for (int64_t j = 0; j < p.w; ++j) {
        float* to = f32(p.to) + (r * p.w + j) * p.c;
        std::fill_n(to, p.c, 0.0f);
        for (int64_t a = 0; a < p.scale; ++a)
          for (int64_t b = 0; b < p.scale; ++b) {
            const float* from =
                f32(p.from) + ((r * p.scale + a) * p.w * p.scale + j * p.scale + b) * p.c;
#pragma omp simd
            for (int64_t c = 0; c < p.c; ++c) to[c] += from[c];
          }
      }
  });
}

void copy_channels(const CopyChannels& p) {
  const int64_t size = size_of(p.dtype);
  const auto* from = static_cast<const std::byte*>(p.from);
  auto* to = static_cast<std::byte*>(p.to);
  parallel_for(p.rows, std::max<int64_t>(1, (1 << 14) / p.channels),
               [&](int64_t begin, int64_t end) {
                 for (int64_t r = begin; r < end; ++r)
                   std::copy_n(from + (r * p.from_pitch + p.from_offset) * size, p.channels * size,
                               to + (r * p.to_pitch + p.to_offset) * size);
               });
}

void bytes_to_float(const BytesToFloat& p) {
  parallel_for(p.n, 1 << 15, [x = p.x, y = p.y](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) y[i] = static_cast<float>(x[i]) / 255.0f;
  });
}

}  // namespace sextant::kernels::SEXTANT_CPU
