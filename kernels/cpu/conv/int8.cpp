// Rows of the input are widened to 16 bits with their padding, then tiles of up to 6 pixels by 16
// channels are summed in registers: a step multiplies two input channels at once. On AVX2 a step of
// a full tile is 12 vpmaddwd and 12 additions for 192 products, 6 cycles where two of the former
// start in one, which is half the cycles of f32.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "core/parallel.h"
#include "kernels/conv_int8.h"
#include "kernels/cpu/namespace.h"
#include "kernels/math/requantize.h"

#ifdef __AVX2__
#include <immintrin.h>
#endif

namespace sextant::kernels::SEXTANT_CPU {
namespace {

constexpr int64_t kTile = 6;    // pixels
constexpr int64_t kBlock = 16;  // output channels
// Pixels that go over a block's weights in a row: those may come from the last cache.
constexpr int64_t kPixels = 64;

struct Geometry {
  explicit Geometry(const ConvShape& s)
      : inputs(s.ic / s.groups),
        padded((inputs + 1) / 2 * 2),
        outputs(s.oc / s.groups),
        blocks((outputs + kBlock - 1) / kBlock),
        block_size(s.kh * s.kw * padded * kBlock) {}
  int64_t inputs, padded;   // channels of a group
  int64_t outputs, blocks;  // likewise
  int64_t block_size;       // weights of a block
};

// A pointwise convolution has no neighbours: its pixels make rows of a handy length.
ConvShape in_rows(ConvShape s) {
  if (s.kh != 1 || s.kw != 1 || s.stride != 1 || s.pad != 0) return s;
  const int64_t pixels = s.n * s.h * s.w;
  s.n = 1;
  s.w = std::min(pixels, kPixels);
  s.h = (pixels + s.w - 1) / s.w;
  return s;
}

// [w, 3] -> [w, 4] of an image, from the left; returns how many of the w pixels were done.
template <class X>
int64_t widen_colours(const X* x, int64_t w, int16_t* y) {
  int64_t i = 0;
#ifdef __AVX2__
  const __m128i order = _mm_setr_epi8(0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1);
  for (; i + 6 <= w; i += 4) {  // 12 bytes of 16 that are read
    const __m128i bytes =
        _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x + 3 * i)), order);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y + 4 * i), std::is_signed_v<X>
                                                                   ? _mm256_cvtepi8_epi16(bytes)
                                                                   : _mm256_cvtepu8_epi16(bytes));
  }
#else
  (void)x, (void)w, (void)y;
#endif
  return i;
}

// x of one input line: [w, inputs] at `pitch` -> [pad + w + pad, padded], zeros around.
template <class X>
void widen(const X* x, int64_t w, int64_t pitch, int64_t pad, const Geometry& g, int16_t* y) {
  y = std::fill_n(y, pad * g.padded, int16_t{0});
  if (pitch == g.padded && pitch == g.inputs) {
#pragma omp simd
    for (int64_t i = 0; i < w * pitch; ++i) y[i] = x[i];
    y += w * pitch;
  } else {
    int64_t i = g.inputs == 3 && pitch == 3 ? widen_colours(x, w, y) : 0;
    x += i * pitch;
    y += i * g.padded;
    for (; i < w; ++i, x += pitch, y += g.padded) {
      for (int64_t c = 0; c < g.inputs; ++c) y[c] = x[c];
      if (g.padded > g.inputs) y[g.inputs] = 0;
    }
  }
  std::fill_n(y, pad * g.padded, int16_t{0});
}

// Numbers within Y's range to integers, half-way ones to the even.
#ifdef __AVX2__
template <class Y>
void round_block(const float* v, Y* y) {
  const __m256i words =
      _mm256_permute4x64_epi64(_mm256_packs_epi32(_mm256_cvtps_epi32(_mm256_loadu_ps(v)),
                                                  _mm256_cvtps_epi32(_mm256_loadu_ps(v + 8))),
                               0xD8);
  const __m128i low = _mm256_castsi256_si128(words), high = _mm256_extracti128_si256(words, 1);
  const __m128i bytes =
      std::is_signed_v<Y> ? _mm_packs_epi16(low, high) : _mm_packus_epi16(low, high);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(y), bytes);
}
#else
template <class Y>
void round_block(const float* v, Y* y) {
  for (int64_t c = 0; c < kBlock; ++c) y[c] = static_cast<Y>(std::nearbyint(v[c]));
}
#endif

#ifdef __AVX2__
// Eight sums, each with the products of a pair added.
struct Sums {
  __m256i v = _mm256_setzero_si256();
  void add(const int16_t* pair, const int16_t* weights) {
    int32_t both;
    std::memcpy(&both, pair, sizeof(both));
    const __m256i w = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(weights));
    v = _mm256_add_epi32(v, _mm256_madd_epi16(_mm256_set1_epi32(both), w));
  }
  void store(int32_t* to) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), v); }
};
#else
struct Sums {
  std::array<int32_t, 8> v{};
  void add(const int16_t* pair, const int16_t* weights) {
    for (size_t i = 0; i < 8; ++i) v[i] += pair[0] * weights[2 * i] + pair[1] * weights[2 * i + 1];
  }
  void store(int32_t* to) const { std::copy_n(v.begin(), 8, to); }
};
#endif

// Sums of P pixels, `apart` elements one from the next, over kh lines of `pairs` pairs each that
// start `line` apart.
template <int P>
void sum_tile(const int16_t* x, int64_t kh, int64_t line, int64_t pairs, int64_t apart,
              const int16_t* w, int32_t* sums) {
  Sums acc[P][2];
  for (int64_t ky = 0; ky < kh; ++ky, x += line)
    for (int64_t i = 0; i < pairs; ++i, w += 2 * kBlock)
#pragma GCC unroll 6
      for (int p = 0; p < P; ++p) {
        acc[p][0].add(x + p * apart + 2 * i, w);
        acc[p][1].add(x + p * apart + 2 * i, w + kBlock);
      }
  for (int p = 0; p < P; ++p) {
    acc[p][0].store(sums + p * kBlock);
    acc[p][1].store(sums + p * kBlock + kBlock / 2);
  }
}

using SumTile = void (*)(const int16_t*, int64_t, int64_t, int64_t, int64_t, const int16_t*,
                         int32_t*);
constexpr std::array<SumTile, kTile> kSumTile = {sum_tile<1>, sum_tile<2>, sum_tile<3>,
                                                 sum_tile<4>, sum_tile<5>, sum_tile<6>};

// What follows the sums [pixels, kBlock] of `channels` channels from channel o, pixels in a row.
using Finish = void (*)(const ConvInt8Forward& p, const int32_t* sums, int64_t pixel,
                        int64_t pixels, int64_t o, int64_t channels);

template <class T>
void copy_channels(const T* from, int64_t channels, T* to) {
  if (channels == kBlock)
    std::memcpy(to, from, kBlock * sizeof(T));  // of a size known here
  else
    std::copy_n(from, channels, to);
}

template <Activation A, class Y>
void finish(const ConvInt8Forward& p, const int32_t* sums, int64_t pixel, int64_t pixels, int64_t o,
            int64_t channels) {
  constexpr bool kReal = std::is_same_v<Y, float>;
  constexpr float kLow = std::is_signed_v<Y> ? -128.0f : 0.0f;
  constexpr float kHigh = std::is_signed_v<Y> ? 127.0f : 255.0f;
  const requantizing::Requantized<A> epilogue(p.epilogue, p.residual != nullptr);
  const int64_t y_pitch = p.y_pitch ? p.y_pitch : p.shape.oc;
  const int64_t r_pitch = p.residual_pitch ? p.residual_pitch : p.shape.oc;
  std::array<float, kBlock> bias{}, factor{};
  if (p.bias) std::copy_n(p.bias + o, channels, bias.data());
  std::copy_n(p.factor + o, channels, factor.data());
  std::array<Y, kBlock> stored{}, result;
  std::array<float, kBlock> residual{}, v;
  for (int64_t i = 0; i < pixels; ++i, sums += kBlock) {
    if (p.residual) {
      copy_channels(static_cast<const Y*>(p.residual) + (pixel + i) * r_pitch + o, channels,
                    stored.data());
      for (size_t c = 0; c < kBlock; ++c) residual[c] = static_cast<float>(stored[c]);
    }
#pragma omp simd
    for (size_t c = 0; c < kBlock; ++c) {
      const float pre = epilogue.pre(static_cast<float>(sums[c]), bias[c], factor[c], residual[c]);
      v[c] = epilogue.post(pre, residual[c]);
      if (!kReal) v[c] = requantizing::clamp(v[c], kLow, kHigh);
    }
    Y* y = static_cast<Y*>(p.y) + (pixel + i) * y_pitch + o;
    if constexpr (kReal) {
      copy_channels(v.data(), channels, y);
    } else {
      round_block(v.data(), result.data());
      copy_channels(result.data(), channels, y);
    }
  }
}

void store_sums(const ConvInt8Forward& p, const int32_t* sums, int64_t pixel, int64_t pixels,
                int64_t o, int64_t channels) {
  const int64_t pitch = p.y_pitch ? p.y_pitch : p.shape.oc;
  for (int64_t i = 0; i < pixels; ++i)
    copy_channels(sums + i * kBlock, channels,
                  static_cast<int32_t*>(p.y) + (pixel + i) * pitch + o);
}

Finish choose_finish(const ConvInt8Forward& p) {
  if (p.y_type == DType::kI32) return store_sums;
  Finish chosen = nullptr;
  dispatch_activation(p.epilogue.activation, [&](auto tag) {
    constexpr Activation kAct = decltype(tag)::value;
    if (p.y_type == DType::kI8) chosen = finish<kAct, int8_t>;
    if (p.y_type == DType::kU8) chosen = finish<kAct, uint8_t>;
    if (p.y_type == DType::kF32) chosen = finish<kAct, float>;
  });
  check(chosen != nullptr, "ConvInt8: y is {}, must be I8, U8, F32 or I32", name_of(p.y_type));
  return chosen;
}

// One group of channels.
struct Job {
  const ConvInt8Forward& p;
  ConvShape s;  // in_rows()
  Geometry g;
  int64_t group;
  const int16_t* weights;  // of the group
  Finish finish;

  // Lines [first, first + count) of image n, widened; those outside it are zeros.
  template <class X>
  void widen_lines(int64_t n, int64_t first, int64_t count, int16_t* y) const {
    const int64_t pitch = p.x_pitch ? p.x_pitch : s.ic;
    const int64_t line = (s.w + 2 * s.pad) * g.padded;
    const int64_t all = p.shape.n * p.shape.h * p.shape.w;
    for (int64_t i = first; i < first + count; ++i, y += line) {
      const int64_t begin = (n * s.h + i) * s.w;
      if (i < 0 || i >= s.h)
        std::fill_n(y, line, int16_t{0});
      else  // the last of in_rows() may be short
        widen(static_cast<const X*>(p.x) + begin * pitch + group * g.inputs,
              std::min(s.w, all - begin), pitch, s.pad, g, y);
    }
  }

  // `rows` rows of the result from row oy of image n, blocks [from, to) of the channels.
  void run(int64_t n, int64_t oy, int64_t rows, int64_t from, int64_t to) const {
    thread_local std::vector<int16_t> lines;
    const int64_t line = (s.w + 2 * s.pad) * g.padded;
    const int64_t count = (rows - 1) * s.stride + s.kh;
    lines.resize(static_cast<size_t>(std::max(std::ssize(lines), count * line)));
    const int64_t top = oy * s.stride - s.pad;
    if (p.x_type == DType::kI8)
      widen_lines<int8_t>(n, top, count, lines.data());
    else
      widen_lines<uint8_t>(n, top, count, lines.data());
    for (int64_t b = from; b < to; ++b)
      for (int64_t r = 0; r < rows; ++r)
        run_row(lines.data() + r * s.stride * line, line, (n * s.oh() + oy + r) * s.ow(), b);
  }

  void run_row(const int16_t* x, int64_t line, int64_t pixel, int64_t b) const {
    alignas(64) std::array<int32_t, kPixels * kBlock> sums;
    const int64_t all = p.shape.n * p.shape.oh() * p.shape.ow();
    const int64_t width = std::min(s.ow(), all - pixel);
    const int64_t tiles = (width + kTile - 1) / kTile;
    const int64_t apart = s.stride * g.padded;
    const int64_t channels = std::min(kBlock, g.outputs - b * kBlock);
    int64_t begin = 0;  // of what is in `sums`
    for (int64_t t = 0; t < tiles; ++t) {
      const int64_t at = width * t / tiles, end = width * (t + 1) / tiles;
      kSumTile[static_cast<size_t>(end - at - 1)](x + at * apart, s.kh, line, s.kw * g.padded / 2,
                                                  apart, weights + b * g.block_size,
                                                  sums.data() + (at - begin) * kBlock);
      if (end < width && end - begin <= kPixels - kTile) continue;
      finish(p, sums.data(), pixel + begin, end - begin, group * g.outputs + b * kBlock, channels);
      begin = end;
    }
  }
};

}  // namespace

ConvInt8::ConvInt8(const ConvShape& shape, const int8_t* w) : shape_(shape) {
  const Geometry g(shape);
  const int64_t taps = shape.kh * shape.kw;
  weights_.resize(static_cast<size_t>(shape.groups * g.blocks * g.block_size));
  for (int64_t o = 0; o < shape.oc; ++o) {
    const int64_t group = o / g.outputs, in_group = o % g.outputs;
    int16_t* block = weights_.data() + (group * g.blocks + in_group / kBlock) * g.block_size +
                     in_group % kBlock * 2;
    for (int64_t tap = 0; tap < taps; ++tap)
      for (int64_t c = 0; c < g.inputs; ++c)
        block[(tap * g.padded + c) / 2 * (2 * kBlock) + c % 2] = w[(o * taps + tap) * g.inputs + c];
  }
}

void ConvInt8::operator()(const ConvInt8Forward& p) const {
  check(p.shape == shape_, "ConvInt8: called with another shape than it was made for");
  check(p.x_type == DType::kI8 || p.x_type == DType::kU8, "ConvInt8: x is {}, must be I8 or U8",
        name_of(p.x_type));
  const Geometry g(shape_);
  const ConvShape s = in_rows(shape_);
  const Finish finish = choose_finish(p);
  const int64_t rows = std::min((kPixels - 1) / s.ow() + 1, s.oh());
  const int64_t bands = (s.oh() + rows - 1) / rows;
  // Where there are too few bands to share out evenly, the channels are shared out too.
  const int64_t parts =
      std::clamp((4 * num_threads() + s.n * bands - 1) / (s.n * bands), int64_t{1}, g.blocks);
  for (int64_t group = 0; group < shape_.groups; ++group) {
    const Job job{p, s, g, group, weights_.data() + group * g.blocks * g.block_size, finish};
    parallel_for(s.n * bands * parts, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t part = i % parts, band = i / parts % bands, n = i / parts / bands;
        job.run(n, band * rows, std::min(rows, s.oh() - band * rows), g.blocks * part / parts,
                g.blocks * (part + 1) / parts);
      }
    });
  }
}

void conv_int8_forward(const ConvInt8Forward& p) { ConvInt8(p.shape, p.w)(p); }

}  // namespace sextant::kernels::SEXTANT_CPU
