#include "deploy/data_kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include "core/parallel.h"

namespace sextant::deploy {
namespace {

// Rows for a thread to be worth waking: about 32 KiB.
int64_t grain(int64_t bytes_per_row) { return 1 + 32768 / std::max<int64_t>(bytes_per_row, 1); }

template <class T>
void max_into(T* __restrict y, const T* __restrict x, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] > y[i] ? x[i] : y[i];
}

// Pixels of a row, whose pitch may be wider than their channels.
template <class T>
void max_row(T* line, const T* row, const MaxPool<T>& p) {
  if (p.source_pitch == p.channels) return max_into(line, row, p.width * p.channels);
  for (int64_t w = 0; w < p.width; ++w)
    max_into(line + w * p.channels, row + w * p.source_pitch, p.channels);
}

template <class T>
void copy_row(T* line, const T* row, const MaxPool<T>& p) {
  for (int64_t w = 0; w < p.width; ++w)
    std::copy_n(row + w * p.source_pitch, p.channels, line + w * p.channels);
}

template <class T>
void pool_line(const MaxPool<T>& p, int64_t n, int64_t oh, T* line) {
  const int64_t top = oh * p.stride - p.padding;
  const int64_t first = std::max<int64_t>(top, 0);
  const int64_t last = std::min(top + p.kernel, p.height);
  const auto row = [&](int64_t h) {
    return p.source + (n * p.height + h) * p.width * p.source_pitch;
  };
  copy_row(line, row(first), p);
  for (int64_t h = first + 1; h < last; ++h) max_row(line, row(h), p);
  T* out = p.destination + (n * p.out_height + oh) * p.out_width * p.destination_pitch;
  for (int64_t ow = 0; ow < p.out_width; ++ow, out += p.destination_pitch) {
    const int64_t left = ow * p.stride - p.padding;
    const int64_t begin = std::max<int64_t>(left, 0);
    const int64_t end = std::min(left + p.kernel, p.width);
    std::copy_n(line + begin * p.channels, p.channels, out);
    for (int64_t w = begin + 1; w < end; ++w) max_into(out, line + w * p.channels, p.channels);
  }
}

}  // namespace

void copy_rows(const RowCopy& p) {
  parallel_for(p.rows, grain(p.bytes), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      std::memcpy(p.destination + r * p.destination_pitch, p.source + r * p.source_pitch,
                  static_cast<size_t>(p.bytes));
  });
}

void scatter_2x2(const Scatter& p) {
  const bool dense = p.destination_pitch == p.bytes;
  parallel_for(p.batch * p.height, grain(4 * p.bytes * p.width), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const std::byte* source = p.source + r * p.width * 4 * p.bytes;
      for (int64_t i = 0; i < 2; ++i) {
        std::byte* row = p.destination + (2 * r + i) * 2 * p.width * p.destination_pitch;
        for (int64_t w = 0; w < p.width; ++w) {
          const std::byte* pair = source + (w * 4 + 2 * i) * p.bytes;
          std::byte* out = row + 2 * w * p.destination_pitch;
          if (dense) {
            std::memcpy(out, pair, static_cast<size_t>(2 * p.bytes));
          } else {
            std::memcpy(out, pair, static_cast<size_t>(p.bytes));
            std::memcpy(out + p.destination_pitch, pair + p.bytes, static_cast<size_t>(p.bytes));
          }
        }
      }
    }
  });
}

void upsample(const Upsample& p) {
  const int64_t wide = p.width * p.scale;
  parallel_for(p.batch * p.height * p.scale, grain(p.bytes * wide),
               [&](int64_t begin, int64_t end) {
                 for (int64_t r = begin; r < end; ++r) {
                   const std::byte* row = p.source + r / p.scale * p.width * p.source_pitch;
                   std::byte* out = p.destination + r * wide * p.destination_pitch;
                   for (int64_t w = 0; w < wide; ++w)
                     std::memcpy(out + w * p.destination_pitch, row + w / p.scale * p.source_pitch,
                                 static_cast<size_t>(p.bytes));
                 }
               });
}

template <class T>
void max_pool(const MaxPool<T>& p) {
  const int64_t line_bytes = p.width * p.channels * static_cast<int64_t>(sizeof(T));
  parallel_for(p.batch * p.out_height, grain(line_bytes), [&](int64_t begin, int64_t end) {
    std::vector<T> line(static_cast<size_t>(p.width * p.channels));
    for (int64_t r = begin; r < end; ++r)
      pool_line(p, r / p.out_height, r % p.out_height, line.data());
  });
}
template void max_pool(const MaxPool<float>&);
template void max_pool(const MaxPool<uint8_t>&);
template void max_pool(const MaxPool<int8_t>&);

template <class T>
void add_rows(const AddRows<T>& p) {
  const bool clamp = p.low < p.high;
  parallel_for(p.rows, grain(p.channels), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const T* a = p.a + r * p.a_pitch;
      const T* b = p.b + r * p.b_pitch;
      T* y = p.y + r * p.y_pitch;
      if constexpr (std::is_same_v<T, float>) {
#pragma omp simd
        for (int64_t c = 0; c < p.channels; ++c) {
          const float v = std::fma(p.factor, b[c], a[c]);
          const float q = std::nearbyint(v);
          y[c] = !clamp ? v : (q < p.low ? p.low : (q > p.high ? p.high : q));
        }
      } else if (p.factor != 1.0f) {
        constexpr float kLow = std::numeric_limits<T>::min();
        constexpr float kHigh = std::numeric_limits<T>::max();
#pragma omp simd
        for (int64_t c = 0; c < p.channels; ++c) {
          const float q = std::nearbyint(
              std::fma(p.factor, static_cast<float>(b[c]), static_cast<float>(a[c])));
          y[c] = static_cast<T>(q < kLow ? kLow : (q > kHigh ? kHigh : q));
        }
      } else {
        constexpr int kLow = std::numeric_limits<T>::min();
        constexpr int kHigh = std::numeric_limits<T>::max();
#pragma omp simd
        for (int64_t c = 0; c < p.channels; ++c) {
          const int v = a[c] + b[c];
          y[c] = static_cast<T>(v < kLow ? kLow : (v > kHigh ? kHigh : v));
        }
      }
    }
  });
}
template void add_rows(const AddRows<float>&);
template void add_rows(const AddRows<uint8_t>&);
template void add_rows(const AddRows<int8_t>&);

}  // namespace sextant::deploy
