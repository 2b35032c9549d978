// SPDX-License-Identifier: Apache-2.0
#include "kernels/strided.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/half.h"
#include "core/parallel.h"
#include "kernels/cpu/namespace.h"

namespace sextant::kernels::SEXTANT_CPU {
namespace {

// The number of rows that justifies waking a thread: about 32 KiB.
int64_t grain(int64_t bytes_per_row) { return 1 + 32768 / std::max<int64_t>(bytes_per_row, 1); }

// Calls f with a value of the element type.
template <class F>
void dispatch(const char* name, DType type, F&& f) {
  if (type == DType::kU8) return f(uint8_t{});
  if (type == DType::kI8) return f(int8_t{});
  if (type == DType::kF16) return f(Half{});
  check(type == DType::kF32, "{}: a tensor of {}, must be F32, F16, U8 or I8", name, name_of(type));
  f(float{});
}
template <class F>
void dispatch_float(const char* name, DType type, F&& f) {
  if (type == DType::kF16) return f(Half{});
  check(type == DType::kF32, "{}: a tensor of {}, must be F32 or F16", name, name_of(type));
  f(float{});
}

template <class T>
float number(T v) {
  if constexpr (std::is_same_v<T, Half>)
    return to_float(v);
  else
    return static_cast<float>(v);
}
template <class T>
T stored(float v) {
  if constexpr (std::is_same_v<T, Half>)
    return to_half(v);
  else
    return static_cast<T>(v);
}

template <class T>
bool greater(T a, T b) {
  if constexpr (std::is_same_v<T, Half>)
    return to_float(a) > to_float(b);
  else
    return a > b;
}

// --- pooling: the vertical maximum into a line of its own, then the horizontal one: 2 * kernel
// comparisons a value instead of kernel^2.

template <class T>
struct Pool {
  const MaxPoolStrided& p;

  static void max_into(T* __restrict y, const T* __restrict x, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) y[i] = greater(x[i], y[i]) ? x[i] : y[i];
  }
  // Pixels of a row, whose pitch may be wider than their channels.
  void max_row(T* line, const T* row) const {
    if (p.source_pitch == p.channels) return max_into(line, row, p.width * p.channels);
    for (int64_t w = 0; w < p.width; ++w)
      max_into(line + w * p.channels, row + w * p.source_pitch, p.channels);
  }
  void copy_row(T* line, const T* row) const {
    for (int64_t w = 0; w < p.width; ++w)
      std::copy_n(row + w * p.source_pitch, p.channels, line + w * p.channels);
  }
  void out_line(int64_t n, int64_t oh, T* line) const {
    const int64_t top = oh * p.stride - p.padding;
    const int64_t first = std::max<int64_t>(top, 0);
    const int64_t last = std::min(top + p.kernel, p.height);
    const auto row = [&](int64_t h) {
      return static_cast<const T*>(p.source) + (n * p.height + h) * p.width * p.source_pitch;
    };
    copy_row(line, row(first));
    for (int64_t h = first + 1; h < last; ++h) max_row(line, row(h));
    T* out = static_cast<T*>(p.destination) +
             (n * p.out_height + oh) * p.out_width * p.destination_pitch;
    for (int64_t ow = 0; ow < p.out_width; ++ow, out += p.destination_pitch) {
      const int64_t left = ow * p.stride - p.padding;
      const int64_t begin = std::max<int64_t>(left, 0);
      const int64_t end = std::min(left + p.kernel, p.width);
      std::copy_n(line + begin * p.channels, p.channels, out);
      for (int64_t w = begin + 1; w < end; ++w) max_into(out, line + w * p.channels, p.channels);
    }
  }
};

// Pixel (oh, ow) of an image at x. Acc: int where integers are summed.
template <class T, class Acc>
void average_of(const AveragePoolStrided& p, const T* x, int64_t oh, int64_t ow, Acc* sum, T* y) {
  const int64_t up = oh * p.stride - p.top, left = ow * p.stride - p.left;
  const int64_t y0 = std::max<int64_t>(up, 0), y1 = std::min(up + p.kernel_height, p.height);
  const int64_t x0 = std::max<int64_t>(left, 0), x1 = std::min(left + p.kernel_width, p.width);
  std::fill_n(sum, p.channels, Acc{0});
  for (int64_t h = y0; h < y1; ++h)
    for (int64_t w = x0; w < x1; ++w) {
      const T* in = x + (h * p.width + w) * p.source_pitch;
      for (int64_t c = 0; c < p.channels; ++c) sum[c] += static_cast<Acc>(number(in[c]));
    }
  const auto count = static_cast<Acc>((y1 - y0) * (x1 - x0));
  for (int64_t c = 0; c < p.channels; ++c) {
    if constexpr (std::is_same_v<Acc, int>)
      y[c] = stored<T>(static_cast<float>(rounded_quotient(sum[c], count)));
    else
      y[c] = stored<T>(sum[c] / count);
  }
}

template <class T, class Acc>
void average_pool_of(const AveragePoolStrided& p) {
  const int64_t window = p.kernel_height * p.kernel_width * p.channels;
  parallel_for(p.batch * p.out_height, grain(window * p.out_width),
               [&](int64_t begin, int64_t end) {
                 std::vector<Acc> sum(static_cast<size_t>(p.channels));
                 for (int64_t r = begin; r < end; ++r) {
                   const T* x = static_cast<const T*>(p.source) +
                                r / p.out_height * p.height * p.width * p.source_pitch;
                   T* y = static_cast<T*>(p.destination) + r * p.out_width * p.destination_pitch;
                   for (int64_t ow = 0; ow < p.out_width; ++ow, y += p.destination_pitch)
                     average_of(p, x, r % p.out_height, ow, sum.data(), y);
                 }
               });
}

// --- addition

float rounded(float v, float low, float high) {
  v = std::nearbyint(v);
  return v < low ? low : (v > high ? high : v);
}

template <class T>
void add_row(const AddStrided& p, const T* a, const T* b, T* y) {
  if constexpr (!std::is_integral_v<T>) {
    const bool clamp = p.low < p.high;
#pragma omp simd
    for (int64_t c = 0; c < p.channels; ++c) {
      const float v = std::fma(p.factor, number(b[c]), number(a[c]));
      y[c] = stored<T>(clamp ? rounded(v, p.low, p.high) : v);
    }
  } else if (p.factor != 1.0f) {
    constexpr float kLow = std::numeric_limits<T>::min();
    constexpr float kHigh = std::numeric_limits<T>::max();
#pragma omp simd
    for (int64_t c = 0; c < p.channels; ++c) {
      const float v = std::fma(p.factor, static_cast<float>(b[c]), static_cast<float>(a[c]));
      y[c] = static_cast<T>(rounded(v, kLow, kHigh));
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

// --- products

// One byte tensor of a product: signed or not, as numbers.
struct Bytes {
  const uint8_t* x;
  uint8_t flip;  // 128 turns the bits of an I8 into those of a U8 that is 128 larger
  float shift;
  Bytes(const void* from, DType type)
      : x(static_cast<const uint8_t*>(from)),
        flip(type == DType::kI8 ? 128 : 0),
        shift(type == DType::kI8 ? -128.0f : 0.0f) {}
  float operator()(int64_t i) const { return static_cast<float>(x[i] ^ flip) + shift; }
};
template <class T>
struct Floats {
  const T* x;
  float operator()(int64_t i) const { return number(x[i]); }
};

template <class A, class B, class Store>
void multiply_row(int64_t channels, float factor, const A& a, const B& b, const Store& store) {
#pragma omp simd
  for (int64_t c = 0; c < channels; ++c) store(c, a(c) * b(c) * factor);
}

// n values. A store of bytes might change what a reference refers to, so loops over bytes have what
// they read in variables of their own, here and below.
template <class B>
void multiply_run(const MultiplyStrided& p, int64_t n, const Bytes& a, const B& b, uint8_t* y) {
  const float low = p.low, high = p.high;
  multiply_row(n, p.factor, a, b, [=](int64_t c, float v) {
    y[c] = static_cast<uint8_t>(static_cast<int>(rounded(v, low, high)));
  });
}

// Rows [begin, end) of all images. Where each pixel has the same factors and pixels are dense, the
// factors are repeated so that a run is long, however few channels there are.
void multiply_bytes(const MultiplyStrided& p, int64_t begin, int64_t end) {
  constexpr int64_t kRun = 512;
  const bool dense = p.a_pitch == p.channels && p.y_pitch == p.channels;
  const int64_t repeats = p.b_per_image && dense ? (kRun + p.channels - 1) / p.channels : 1;
  std::vector<float> factors(static_cast<size_t>(p.b_per_image ? repeats * p.channels : 0));
  int64_t image = -1;
  for (int64_t r = begin; r < end;) {
    Bytes a(p.a, p.a_type), b(p.b, p.b_type);
    a.x += r * p.a_pitch;
    uint8_t* y = static_cast<uint8_t*>(p.y) + r * p.y_pitch;
    if (!p.b_per_image) {
      b.x += r * p.b_pitch;
      multiply_run(p, p.channels, a, b, y);
      ++r;
      continue;
    }
    if (r / p.pixels != image) {
      image = r / p.pixels;
      b.x += image * p.b_pitch;
      for (int64_t i = 0; i < repeats * p.channels; ++i)
        factors[static_cast<size_t>(i)] = b(i % p.channels);
    }
    const int64_t rows = std::min({repeats, end - r, (image + 1) * p.pixels - r});
    multiply_run(p, rows * p.channels, a, Floats<float>{factors.data()}, y);
    r += rows;
  }
}
template <class T>
void multiply_floats(const MultiplyStrided& p, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    const Floats<T> a{static_cast<const T*>(p.a) + r * p.a_pitch};
    const Floats<T> b{static_cast<const T*>(p.b) + (p.b_per_image ? r / p.pixels : r) * p.b_pitch};
    T* y = static_cast<T*>(p.y) + r * p.y_pitch;
    multiply_row(p.channels, p.factor, a, b, [&](int64_t c, float v) {
      y[c] = stored<T>(p.round ? rounded(v, p.low, p.high) : v);
    });
  }
}

// --- maps

template <class From, class To, Activation A>
void map_range(const ConvertStrided& p, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    const From* x = static_cast<const From*>(p.x) + r * p.x_pitch;
    To* y = static_cast<To*>(p.y) + r * p.y_pitch;
    for (int64_t c = 0; c < p.channels; ++c) {
      const float v = activate<A>(number(x[c]) * p.x_scale);
      y[c] = stored<To>(p.round ? converted_level(v, p) : v);
    }
  }
}

void map_by_table(const ConvertStrided& p) {
  check(p.table != nullptr, "convert_strided: {} to {} without a table", name_of(p.x_type),
        name_of(p.y_type));
  parallel_for(p.rows, 256, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const uint8_t* x = static_cast<const uint8_t*>(p.x) + r * p.x_pitch;
      uint8_t* y = static_cast<uint8_t*>(p.y) + r * p.y_pitch;
      for (int64_t c = 0; c < p.channels; ++c) y[c] = p.table[x[c]];
    }
  });
}

}  // namespace

void copy_strided(const CopyStrided& p) {
  const auto* source = static_cast<const std::byte*>(p.source);
  auto* destination = static_cast<std::byte*>(p.destination);
  parallel_for(p.rows, grain(p.bytes), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      std::memcpy(destination + r * p.destination_pitch, source + r * p.source_pitch,
                  static_cast<size_t>(p.bytes));
  });
}

void depth_to_space(const DepthToSpace& p) {
  const bool dense = p.destination_pitch == p.bytes;
  const int64_t rows = p.scale, columns = p.columns();
  const int64_t out_height = p.out_height(), out_width = p.out_width();
  parallel_for(p.batch * out_height, grain(p.bytes * out_width), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t oh = r % out_height;
      const std::byte* row =
          static_cast<const std::byte*>(p.source) +
          (((r / out_height * p.height + oh / rows) * p.width * rows) + oh % rows) * columns *
              p.bytes;
      std::byte* out = static_cast<std::byte*>(p.destination) + r * out_width * p.destination_pitch;
      for (int64_t w = 0; w < p.width; ++w, row += rows * columns * p.bytes) {
        const int64_t count = std::min(columns, out_width - w * columns);  // taps that are pixels
        if (dense) {
          std::memcpy(out + w * columns * p.bytes, row, static_cast<size_t>(count * p.bytes));
          continue;
        }
        for (int64_t tap = 0; tap < count; ++tap)
          std::memcpy(out + (w * columns + tap) * p.destination_pitch, row + tap * p.bytes,
                      static_cast<size_t>(p.bytes));
      }
    }
  });
}

void upsample_strided(const UpsampleStrided& p) {
  const int64_t wide = p.width * p.scale;
  parallel_for(
      p.batch * p.height * p.scale, grain(p.bytes * wide), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
          const std::byte* row =
              static_cast<const std::byte*>(p.source) + r / p.scale * p.width * p.source_pitch;
          std::byte* out = static_cast<std::byte*>(p.destination) + r * wide * p.destination_pitch;
          for (int64_t w = 0; w < wide; ++w)
            std::memcpy(out + w * p.destination_pitch, row + w / p.scale * p.source_pitch,
                        static_cast<size_t>(p.bytes));
        }
      });
}

namespace {

// Whether channels of two runs follow each other by turns, as a shuffle of two groups has them.
bool by_turns(const GatherChannels& p) {
  if (p.count % 2 != 0) return false;
  for (int64_t c = 2; c < p.count; ++c)
    if (p.channels[c] != p.channels[c - 2] + 1) return false;
  return true;
}

// Elements of a and b by turns, from `first` on.
template <size_t first, class V, size_t... I>
V turns(V a, V b, std::index_sequence<I...>) {
  return __builtin_shufflevector(a, b, (first + I / 2 + I % 2 * sizeof...(I))...);
}
// As many elements of each as kBytes hold.
template <int64_t kBytes, class T>
void take_turns_in_vectors(const T* a, const T* b, T* y) {
  typedef T Vector __attribute__((vector_size(kBytes)));
  constexpr size_t kCount = kBytes / sizeof(T);
  constexpr std::make_index_sequence<kCount> kElements;
  Vector from_a, from_b;
  std::memcpy(&from_a, a, kBytes);
  std::memcpy(&from_b, b, kBytes);
  const Vector low = turns<0>(from_a, from_b, kElements);
  const Vector high = turns<kCount / 2>(from_a, from_b, kElements);
  std::memcpy(y, &low, kBytes);
  std::memcpy(y + kCount, &high, kBytes);
}
// n elements of each.
template <class T>
void take_turns(const T* a, const T* b, int64_t n, T* y) {
  int64_t i = 0;
  for (constexpr int64_t kCount = 16 / sizeof(T); i + kCount <= n; i += kCount)
    take_turns_in_vectors<16>(a + i, b + i, y + 2 * i);
  for (constexpr int64_t kCount = 8 / sizeof(T); i + kCount <= n; i += kCount)
    take_turns_in_vectors<8>(a + i, b + i, y + 2 * i);
  for (; i < n; ++i) {
    y[2 * i] = a[i];
    y[2 * i + 1] = b[i];
  }
}

}  // namespace

void gather_channels(const GatherChannels& p) {
  check(p.bytes == 1 || p.bytes == 2 || p.bytes == 4,
        "gather_channels: elements of {} bytes, must be 1, 2 or 4", p.bytes);
  const bool turns = by_turns(p);
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    const int64_t count = p.count;
    const auto* const channels = p.channels;
    parallel_for(p.rows, grain(p.count * p.bytes),
                 [&, count, channels](int64_t begin, int64_t end) {
                   for (int64_t r = begin; r < end; ++r) {
                     const T* x = static_cast<const T*>(p.source) + r * p.source_pitch;
                     T* y = static_cast<T*>(p.destination) + r * p.destination_pitch;
                     if (turns)
                       take_turns(x + channels[0], x + channels[1], count / 2, y);
                     else
                       for (int64_t c = 0; c < count; ++c) y[c] = x[channels[c]];
                   }
                 });
  };
  if (p.bytes == 1) return run(uint8_t{});
  p.bytes == 2 ? run(uint16_t{}) : run(uint32_t{});
}

void max_pool_strided(const MaxPoolStrided& p) {
  dispatch("max_pool_strided", p.dtype, [&](auto zero) {
    using T = decltype(zero);
    const Pool<T> pool{p};
    const int64_t line_bytes = p.width * p.channels * static_cast<int64_t>(sizeof(T));
    parallel_for(p.batch * p.out_height, grain(line_bytes), [&](int64_t begin, int64_t end) {
      std::vector<T> line(static_cast<size_t>(p.width * p.channels));
      for (int64_t r = begin; r < end; ++r)
        pool.out_line(r / p.out_height, r % p.out_height, line.data());
    });
  });
}

void average_pool_strided(const AveragePoolStrided& p) {
  if (p.batch * p.out_height * p.out_width <= 0) return;
  check_average_pool(p);
  dispatch("average_pool_strided", p.dtype, [&](auto zero) {
    using T = decltype(zero);
    if (std::is_integral_v<T> || p.round)
      average_pool_of<T, int>(p);
    else
      average_pool_of<T, float>(p);
  });
}

void add_strided(const AddStrided& p) {
  dispatch("add_strided", p.dtype, [&](auto zero) {
    using T = decltype(zero);
    parallel_for(p.rows, grain(p.channels), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r)
        add_row(p, static_cast<const T*>(p.a) + r * p.a_pitch,
                static_cast<const T*>(p.b) + r * p.b_pitch, static_cast<T*>(p.y) + r * p.y_pitch);
    });
  });
}

void multiply_strided(const MultiplyStrided& p) {
  const bool bytes = check_product(p);
  check(p.y_type != DType::kBF16, "multiply_strided: a tensor of BF16, must be F32 or F16");
  parallel_for(p.batch * p.pixels, grain(p.channels), [&](int64_t begin, int64_t end) {
    if (bytes) return multiply_bytes(p, begin, end);
    p.y_type == DType::kF16 ? multiply_floats<Half>(p, begin, end)
                            : multiply_floats<float>(p, begin, end);
  });
}

void convert_strided(const ConvertStrided& p) {
  dispatch("convert_strided", p.x_type, [&](auto x) {
    dispatch("convert_strided", p.y_type, [&](auto y) {
      using From = decltype(x);
      using To = decltype(y);
      if constexpr (sizeof(From) == 1 && sizeof(To) == 1)
        map_by_table(p);
      else
        dispatch_activation(p.activation, [&](auto tag) {
          parallel_for(p.rows, 256, [&](int64_t begin, int64_t end) {
            map_range<From, To, decltype(tag)::value>(p, begin, end);
          });
        });
    });
  });
}

void global_average_strided(const GlobalAverageStrided& p) {
  const bool bytes = check_average(p);
  const auto run = [&](auto x_zero, auto y_zero) {
    using X = decltype(x_zero);
    using Y = decltype(y_zero);
    using Sum = std::conditional_t<std::is_integral_v<X>, int32_t, double>;
    GlobalAverageStrided each = p;
    each.round = p.round || std::is_integral_v<Y>;
    parallel_for(p.batch, grain(p.pixels * p.channels), [&](int64_t begin, int64_t end) {
      const int64_t channels = p.channels;
      std::vector<Sum> sums(static_cast<size_t>(channels));
      for (int64_t n = begin; n < end; ++n) {
        const X* x = static_cast<const X*>(p.x) + n * p.pixels * p.x_pitch;
        Y* y = static_cast<Y*>(p.y) + n * p.y_pitch;
        Sum* const sum = sums.data();
        std::fill_n(sum, channels, Sum{0});
        for (int64_t i = 0; i < p.pixels; ++i, x += p.x_pitch)
#pragma omp simd
          for (int64_t c = 0; c < channels; ++c) {
            if constexpr (std::is_integral_v<X>)
              sum[c] += x[c];
            else
              sum[c] += static_cast<Sum>(number(x[c]));
          }
        for (int64_t c = 0; c < channels; ++c) y[c] = stored<Y>(average_of(sum[c], each));
      }
    });
  };
  if (!bytes)
    return dispatch_float("global_average_strided", p.x_type, [&](auto zero) { run(zero, zero); });
  const auto from = [&](auto x) { p.y_type == DType::kU8 ? run(x, uint8_t{}) : run(x, int8_t{}); };
  p.x_type == DType::kU8 ? from(uint8_t{}) : from(int8_t{});
}

void softmax_strided(const SoftmaxStrided& p) {
  dispatch_float("softmax_strided", p.dtype, [&](auto zero) {
    using T = decltype(zero);
    parallel_for(p.rows, 16, [&](int64_t begin, int64_t end) {
      std::vector<float> e(static_cast<size_t>(p.channels));
      for (int64_t r = begin; r < end; ++r) {
        const T* x = static_cast<const T*>(p.x) + r * p.x_pitch;
        T* y = static_cast<T*>(p.y) + r * p.y_pitch;
        float largest = number(x[0]);
        for (int64_t c = 1; c < p.channels; ++c) largest = std::max(largest, number(x[c]));
        float sum = 0;
        for (int64_t c = 0; c < p.channels; ++c) {
          e[static_cast<size_t>(c)] = fast_exp(number(x[c]) - largest);
          sum += e[static_cast<size_t>(c)];
        }
        for (int64_t c = 0; c < p.channels; ++c) y[c] = stored<T>(e[static_cast<size_t>(c)] / sum);
      }
    });
  });
}

}  // namespace sextant::kernels::SEXTANT_CPU
