// SPDX-License-Identifier: Apache-2.0
// Depthwise convolutions in int8: one input and one output channel to each group, so that channels
// lie in vectors. The lines that a band of output rows reads are copied with their padding, the pixels
// of each phase of the stride side by side. Then, for a vector of channels at a time, what lies under a
// row of the kernel is gathered into steps (dot.h), each of which serves every output row that reads
// it.
#include <algorithm>
#include <numeric>

#include "kernels/cpu/conv/cuts.h"
#include "kernels/cpu/conv/scratch.h"
#include "kernels/cpu/conv/simd_int8/finish_int8.h"
#include "kernels/cpu/conv/simd_int8/per_isa.h"

SEXTANT_SIMD_BEGIN();
namespace sextant::kernels::cpu::SEXTANT_SIMD {
namespace {

constexpr int kPixels = 4;  // of a tile
// Of the steps of a segment of a band, which stay in the first cache.
constexpr int64_t kStepBytes = 24 * 1024;

bool has_few_channels(const Window& w) { return w.ic < 64 && w.ic % kLanes != 0; }
// Channels in whole vectors; few of them, as many times as fill whole vectors.
int64_t period_of(const Window& w) {
  if (has_few_channels(w)) return std::lcm(w.ic, int64_t{kLanes});
  return (w.ic + kLanes - 1) / kLanes * kLanes;
}
int64_t groups_of(const Window& w) { return (w.kw + kPerStep - 1) / kPerStep; }

// How values lie. `as_run`: a row of the output is one run of values, and a vector holds those of
// several pixels. Otherwise a job copies one vector of channels.
struct DepthwiseLayout {
  DepthwiseLayout(const Window& w, bool run)
      : win(w),
        as_run(run),
        groups(groups_of(w)),
        channels(run ? w.ic : kLanes),
        period(run ? period_of(w) : kLanes),
        span(w.ow + (w.kw - 1) / w.stride) {}

  int64_t line() const { return std::min(win.stride, win.kw) * span * channels; }
  // Where the taps of group g read, from where the first tap does. Those beyond the kernel's row, whose
  // weights are zero, read what its last tap reads.
  void taps(int64_t g, int64_t* to) const {
    for (int64_t i = 0; i < kPerStep; ++i) {
      const int64_t kx = std::min(g * kPerStep + i, win.kw - 1);
      to[i] = (kx % win.stride * span + kx / win.stride) * channels;
    }
  }
  // Vectors of block b in a row, and the values of the last.
  int64_t vectors(int64_t b) const {
    return as_run ? (win.ow * win.ic - b * kLanes + period - 1) / period : win.ow;
  }
  int64_t last(int64_t b) const {
    return (as_run ? win.ow * win.ic - (vectors(b) - 1) * period : win.ic) - b * kLanes;
  }

  const Window& win;
  bool as_run;
  int64_t groups;    // steps of a row of the kernel
  int64_t channels;  // from a copied pixel to the next
  int64_t period;    // from a vector to the next of the same channels
  int64_t span;      // copied pixels of a phase
};

template <class Chunk>
SEXTANT_SIMD_INLINE void flip_chunk(const uint8_t* from, uint8_t flip, uint8_t* to) {
  Chunk v;
  std::memcpy(&v, from, sizeof(v));
  v ^= flip;
  std::memcpy(to, &v, sizeof(v));
}
// n bytes, the bits of `flip` turned over.
SEXTANT_SIMD_INLINE void flip_bytes(const uint8_t* from, int64_t n, uint8_t flip, uint8_t* to) {
  using Sixteen = uint8_t __attribute__((vector_size(16)));
  using Eight = uint8_t __attribute__((vector_size(8)));
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) flip_chunk<Sixteen>(from + i, flip, to + i);
  if (i + 8 <= n) {
    flip_chunk<Eight>(from + i, flip, to + i);
    i += 8;
  }
  for (; i < n; ++i) to[i] = from[i] ^ flip;
}

// A step of each lane: its values `at` in all taps.
template <class X>
SEXTANT_SIMD_INLINE VecI step_of(const X* const* taps, int64_t at) {
#if defined(SEXTANT_SIMD_AVX512_VNNI)
  __m128i part[kPerStep];
  for (int i = 0; i < kPerStep; ++i) std::memcpy(&part[i], taps[i] + at, sizeof(part[i]));
  __m512i v = _mm512_inserti32x4(_mm512_castsi128_si512(part[0]), part[1], 1);
  v = _mm512_inserti32x4(_mm512_inserti32x4(v, part[2], 2), part[3], 3);
  // Four channels of all taps to each 128 bits, then their 4 x 4 bytes transposed.
  v = _mm512_permutexvar_epi32(
      _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), v);
  const __m128i transposed = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return reinterpret_cast<VecI>(_mm512_shuffle_epi8(v, _mm512_broadcast_i32x4(transposed)));
#else
  if constexpr (kVnni)
    return load_bytes(taps[0] + at) | load_bytes(taps[1] + at) << 8 |
           load_bytes(taps[2] + at) << 16 | load_bytes(taps[3] + at) << 24;
  else
    return (load_bytes(taps[0] + at) & 0xFFFF) | load_bytes(taps[1] + at) << 16;
#endif
}

// Part of a band: vectors [first, end) of block b in output rows [rows.begin, rows.end) of image n.
struct DepthwisePart {
  int64_t n, b, first, end;
  Share rows;
};

// What the jobs share. `p` has the scales of a whole period.
struct DepthwiseCall {
  const DepthwiseLayout& layout;
  const Int8Operands& p;
  const int32_t* weights;  // [blocks, kh, groups, kLanes]
  const int32_t* starts;   // [blocks, kLanes]; null: nothing was raised
  int64_t segment;         // vectors

  int64_t steps_of_line() const { return layout.groups * segment * kLanes; }

  // Steps of `count` vectors of each line: [lines, groups, segment, kLanes].
  template <class X>
  void gather(const X* copied, int64_t lines, int64_t count, int32_t* steps) const {
    const int64_t period = layout.period, line = layout.line();
    for (int64_t g = 0; g < layout.groups; ++g) {
      int64_t offsets[kPerStep];
      layout.taps(g, offsets);
      int32_t* to = steps + g * segment * kLanes;
      for (int64_t l = 0; l < lines; ++l, to += steps_of_line()) {
        const X* taps[kPerStep];
        for (int64_t i = 0; i < kPerStep; ++i) taps[i] = copied + l * line + offsets[i];
        for (int64_t i = 0; i < count; ++i) store_ints(to + i * kLanes, step_of(taps, i * period));
      }
    }
  }

  // steps: of the lines that the part reads.
  template <class F, class Y>
  void run(const int32_t* steps, const DepthwisePart& part) const {
    const F finish(p, p.residual != nullptr);
    const int64_t channel = part.b * kLanes;
    const ChannelScales scales(p, channel, layout.as_run ? kLanes : layout.win.ic - channel);
    for (int64_t y = part.rows.begin; y < part.rows.end; ++y) {
      const int32_t* from = steps + (y - part.rows.begin) * layout.win.stride * steps_of_line();
      const Int8Target t(p, part.n, y, 0, channel);
      int64_t v = part.first;
      for (; v + kPixels <= part.end; v += kPixels, from += kPixels * kLanes)
        tile<F, Y, kPixels>(finish, scales, from, part.b, v, t);
      for (; v < part.end; ++v, from += kLanes) tile<F, Y, 1>(finish, scales, from, part.b, v, t);
    }
  }

  // t: where the row begins.
  template <class F, class Y, int P>
  SEXTANT_SIMD_INLINE void tile(const F& finish, const ChannelScales& scales, const int32_t* steps,
                                int64_t b, int64_t vector, const Int8Target& t) const {
    const int64_t count = layout.win.kh * layout.groups;
    const int32_t* w = weights + b * count * kLanes;
    VecI acc[P];
    for (int i = 0; i < P; ++i) acc[i] = starts ? load_ints(starts + b * kLanes) : VecI{};
    for (int64_t k = 0; k < count; ++k, w += kLanes, steps += segment * kLanes) {
      const VecI weight = load_ints(w);
#pragma GCC unroll 4
      for (int i = 0; i < P; ++i) acc[i] = add_steps(acc[i], load_ints(steps + i * kLanes), weight);
    }
    const int64_t y_step = layout.as_run ? layout.period : p.y_at.pixel;
    const int64_t residual_step = layout.as_run ? layout.period : p.residual_at.pixel;
    Y* y = static_cast<Y*>(p.y) + t.y + vector * y_step;
    const Y* residual =
        p.residual ? static_cast<const Y*>(p.residual) + t.residual + vector * residual_step : y;
    const bool ends = vector + P == layout.vectors(b);
#pragma GCC unroll 4
    for (int i = 0; i < P; ++i, y += y_step, residual += residual_step)
      finish(acc[i], scales, residual, y,
             !layout.as_run || (ends && i + 1 == P) ? layout.last(b) : kLanes);
  }
};

using RunDepthwise = void (*)(const DepthwiseCall& call, const int32_t* steps,
                              const DepthwisePart& part);
template <class F, class Y>
void run_depthwise(const DepthwiseCall& call, const int32_t* steps, const DepthwisePart& part) {
  call.run<F, Y>(steps, part);
}
template <class F, class Y>
struct RunDepthwiseFor {
  static constexpr RunDepthwise value = run_depthwise<F, Y>;
};

struct DepthwiseJobs {
  const DepthwiseCall& call;
  const BandCut& cut;
  RunDepthwise run;

  void operator()(int64_t job) const {
    const DepthwiseLayout& layout = call.layout;
    const Window& win = layout.win;
    const int64_t n = cut.image(job), line = layout.line();
    const Share rows = cut.rows(job);
    const int64_t lines = (rows.size() - 1) * win.stride + win.kh;
    // The last vector of a row's taps may read on.
    const int64_t copied_bytes = (lines * line + layout.period + kLanes + 63) / 64 * 64;
    auto* const copied = job_scratch_of<uint8_t>(copied_bytes + 4 * lines * call.steps_of_line());
    auto* const steps = reinterpret_cast<int32_t*>(copied + copied_bytes);
    const Share blocks = cut.channels(job);
    const int64_t channel = layout.as_run ? 0 : blocks.begin * kLanes;
    for (int64_t i = 0; i < lines; ++i)
      copy_line(n, rows.begin * win.stride - win.top + i, channel, copied + i * line);
    for (int64_t b = blocks.begin; b < blocks.end; ++b)
      for (int64_t first = 0; first < layout.vectors(b); first += call.segment) {
        const int64_t end = std::min(first + call.segment, layout.vectors(b));
        const uint8_t* from = copied + b * kLanes - channel + first * layout.period;
        gather(from, lines, end - first, steps);
        run(call, steps, {n, b, first, end, rows});
      }
  }

  void gather(const uint8_t* copied, int64_t lines, int64_t count, int32_t* steps) const {
    if (!kVnni && call.p.x_type == DType::kI8)
      call.gather(reinterpret_cast<const int8_t*>(copied), lines, count, steps);
    else
      call.gather(copied, lines, count, steps);
  }

  // Row y of the image, phase by phase.
  void copy_line(int64_t n, int64_t y, int64_t channel, uint8_t* to) const {
    const Window& w = call.layout.win;
    const int64_t channels = call.layout.channels, span = call.layout.span;
    const uint8_t flip = call.starts ? kRaise : 0;
    if (y < 0 || y >= w.h) {
      std::fill_n(to, call.layout.line(), flip);
      return;
    }
    const auto* row = static_cast<const uint8_t*>(call.p.x) + call.p.x_at.at(n, y, 0) + channel;
    const int64_t pixel = call.p.x_at.pixel, values = std::min(channels, w.ic - channel);
    for (int64_t phase = 0; phase < std::min(w.stride, w.kw); ++phase, to += span * channels) {
      const int64_t begin =
          std::min(span, (std::max<int64_t>(0, w.left - phase) + w.stride - 1) / w.stride);
      const int64_t end = std::clamp((w.w + w.left - phase + w.stride - 1) / w.stride, begin, span);
      std::fill_n(to, begin * channels, flip);
      std::fill_n(to + end * channels, (span - end) * channels, flip);
      const uint8_t* from = row + (begin * w.stride + phase - w.left) * pixel;
      if (w.stride == 1 && pixel == channels)
        flip_bytes(from, (end - begin) * channels, flip, to + begin * channels);
      else
        copy_pixels(from, end - begin, w.stride * pixel, values, flip, to + begin * channels);
    }
  }

  void copy_pixels(const uint8_t* from, int64_t pixels, int64_t pitch, int64_t values, uint8_t flip,
                   uint8_t* to) const {
    const int64_t channels = call.layout.channels;
    if (values == kLanes)
      for (int64_t i = 0; i < pixels; ++i, from += pitch, to += channels)
        flip_bytes(from, kLanes, flip, to);
    else
      for (int64_t i = 0; i < pixels; ++i, from += pitch, to += channels)
        flip_bytes(from, values, flip, to);
  }
};

class DepthwiseInt8 : public Int8Conv {
 public:
  DepthwiseInt8(const Window& window, const int8_t* w)
      : win_(window),
        weights_(window.kh * groups_of(window) * period_of(window)),
        starts_(period_of(window)) {
    const int64_t groups = groups_of(window);
    const int64_t taps = window.kh * window.kw;
    std::fill_n(weights_.data(), weights_.count(), 0);
    std::fill_n(starts_.data(), starts_.count(), 0);
    using Weight = std::conditional_t<kVnni, int8_t, int16_t>;
    auto* const to = reinterpret_cast<Weight*>(weights_.data());
    const int64_t used = has_few_channels(window) ? period_of(window) : window.ic;
    for (int64_t c = 0; c < used; ++c)
      for (int64_t tap = 0; tap < taps; ++tap) {
        const int8_t value = w[c % window.ic * taps + tap];
        const int64_t kx = tap % window.kw;
        const int64_t step = (c / kLanes * window.kh + tap / window.kw) * groups + kx / kPerStep;
        to[(step * kLanes + c % kLanes) * kPerStep + kx % kPerStep] = value;
        starts_.data()[c] -= kRaise * value;
      }
  }

  void run(const Int8Operands& operands) const override {
    Int8Operands p = operands;
    const bool as_run = has_few_channels(win_) && p.y_at.pixel == win_.ic &&
                        (!p.residual || p.residual_at.pixel == win_.ic);
    const DepthwiseLayout layout(win_, as_run);
    if (as_run) {
      auto* to = shared_scratch_of<float>(3 * layout.period);
      for (const float** scales : {&p.bias, &p.factor, &p.gain}) {
        if (!*scales) continue;
        for (int64_t c = 0; c < layout.period; ++c) to[c] = (*scales)[c % win_.ic];
        *scales = to;
        to += layout.period;
      }
    }
    const int64_t blocks = as_run ? period_of(win_) / kLanes : (win_.ic + kLanes - 1) / kLanes;
    const BandCut cut(win_, layout.line(), blocks, !as_run);
    const int64_t lines = ((win_.oh + cut.bands - 1) / cut.bands - 1) * win_.stride + win_.kh;
    const int64_t room = kStepBytes / (lines * layout.groups * 4 * kLanes);
    const bool raised = kVnni && p.x_type == DType::kI8;
    const DepthwiseCall call{layout, p, weights_.data(), raised ? starts_.data() : nullptr,
                             std::max<int64_t>(2 * kPixels, room / kPixels * kPixels)};
    parallel_jobs(cut.jobs, DepthwiseJobs{call, cut, ForFinish<RunDepthwiseFor>::of(p)});
  }
  int64_t weight_bytes() const override { return weights_.bytes() + starts_.bytes(); }

 private:
  Window win_;
  Aligned<int32_t> weights_, starts_;
};

}  // namespace

std::unique_ptr<Int8Conv> make_depthwise_int8(const Window& window, const int8_t* w) {
  return std::make_unique<DepthwiseInt8>(window, w);
}

}  // namespace sextant::kernels::cpu::SEXTANT_SIMD
SEXTANT_SIMD_END();
