// SPDX-License-Identifier: Apache-2.0
// Direct convolutions in int8. The lines that a band of output rows reads are copied with their
// padding, widened to 16 bits, or, where there is VNNI, as bytes; then tiles of pixels by a block of
// channels are summed in registers (dot.h). On AVX2 a step of a full tile is 12 vpmaddwd and 12
// additions for 192 products, which is half the cycles of f32.
#include <algorithm>

#include "kernels/cpu/conv/cuts.h"
#include "kernels/cpu/conv/scratch.h"
#include "kernels/cpu/conv/simd_int8/finish_int8.h"
#include "kernels/cpu/conv/simd_int8/per_isa.h"

SEXTANT_SIMD_BEGIN();
namespace sextant::kernels::cpu::SEXTANT_SIMD {
namespace {

constexpr int64_t kPerStep = kVnni ? 4 : 2;  // integers
// VNNI multiplies unsigned by signed bytes: signed inputs are raised by this, and their sums lowered
// by as much times the sum of the weights.
constexpr int32_t kRaise = 128;

int64_t steps_of(int64_t channels) { return (channels + kPerStep - 1) / kPerStep; }

// Bytes of `count` channels to steps.
template <class X>
SEXTANT_SIMD_INLINE void copy_pixel(const X* from, int64_t count, int32_t* to) {
  if constexpr (kVnni) {
    auto* bytes = reinterpret_cast<uint8_t*>(to);
    constexpr uint8_t kFlip = std::is_signed_v<X> ? 0x80 : 0;  // x + 128
    for (int64_t c = 0; c < count; ++c) bytes[c] = static_cast<uint8_t>(from[c]) ^ kFlip;
    for (int64_t c = count; c % kPerStep != 0; ++c) bytes[c] = 0;
  } else {
    auto* words = reinterpret_cast<int16_t*>(to);
    for (int64_t c = 0; c < count; ++c) words[c] = from[c];
    if (count % 2 != 0) words[count] = 0;
  }
}

// `pixels` pixels of colours, 3 bytes each and followed by another one.
template <class X>
void copy_colours(const X* from, int64_t pixels, int32_t* to) {
  for (int64_t i = 0; i < pixels; ++i, from += 3) {
    uint32_t bytes;
    std::memcpy(&bytes, from, sizeof(bytes));
    if constexpr (kVnni) {
      bytes = (bytes ^ (std::is_signed_v<X> ? 0x808080u : 0u)) & 0xFFFFFFu;
      std::memcpy(to + i, &bytes, sizeof(bytes));
    } else {
      const auto r = static_cast<X>(bytes), g = static_cast<X>(bytes >> 8),
                 b = static_cast<X>(bytes >> 16);
      const int16_t words[4] = {r, g, b, 0};
      std::memcpy(to + 2 * i, words, sizeof(words));
    }
  }
}

template <class X>
void copy_pixels(const X* from, int64_t pixels, int64_t pitch, int64_t count, int32_t* to) {
  if (pitch == count && count % kPerStep == 0) return copy_pixel(from, pixels * count, to);
  if (pitch == 3 && count == 3 && pixels > 1) {
    copy_colours(from, pixels - 1, to);
    from += (pixels - 1) * pitch;
    to += (pixels - 1) * steps_of(count);
    pixels = 1;
  }
  for (int64_t i = 0; i < pixels; ++i, from += pitch, to += steps_of(count))
    copy_pixel(from, count, to);
}

// What padding is in steps.
int32_t nothing(DType x_type) {
  return kVnni && x_type == DType::kI8 ? static_cast<int32_t>(0x80808080u) : 0;
}

struct Packed {
  Aligned<int32_t> steps;   // [blocks, kh, kw, steps of ic, lanes of the block]
  Aligned<int32_t> lowers;  // [oc]: kRaise times the sum of the weights
};

Packed pack(const Window& win, const int8_t* w) {
  const int64_t taps = win.kh * win.kw, steps = steps_of(win.ic);
  Packed packed{Aligned<int32_t>(taps * steps * width_before(win.oc, block_count(win.oc))),
                Aligned<int32_t>(block_count(win.oc) * kBlock)};
  std::fill_n(packed.steps.data(), packed.steps.count(), 0);
  std::fill_n(packed.lowers.data(), packed.lowers.count(), 0);
  using Value = std::conditional_t<kVnni, int8_t, int16_t>;
  for (int64_t o = 0; o < win.oc; ++o) {
    const Block block = block_at(win.oc, o / kBlock);
    auto* to = reinterpret_cast<Value*>(packed.steps.data() + o / kBlock * taps * steps * kBlock);
    for (int64_t tap = 0; tap < taps; ++tap)
      for (int64_t c = 0; c < win.ic; ++c) {
        const int8_t value = w[(o * taps + tap) * win.ic + c];
        const int64_t step = tap * steps + c / kPerStep;
        to[(step * block.width() + o % kBlock) * kPerStep + c % kPerStep] = value;
        packed.lowers.data()[o] += kRaise * value;
      }
  }
  return packed;
}

// Sums [pixels, lanes of the block] to where they go.
using Finish = void (*)(const Int8Operands& p, const int32_t* sums, const int32_t* lowers,
                        int64_t pixels, const Int8Target& t, Block block);
template <class F, class Y>
void finish_pixels(const Int8Operands& p, const int32_t* sums, const int32_t* lowers,
                   int64_t pixels, const Int8Target& t, Block block) {
  const F finish(p);
  for (int64_t c = 0; c < block.channels; c += kLanes) {
    const int64_t count = block.channels - c;
    const ChannelScales scales(p, block.first + c, count);
    const VecI lower = lowers ? load_ints(lowers + block.first + c) : VecI{};
    Y* y = static_cast<Y*>(p.y) + t.y + c;
    const Y* residual = static_cast<const Y*>(p.residual ? p.residual : p.y) + t.residual + c;
    for (int64_t i = 0; i < pixels; ++i) {
      finish(load_ints(sums + i * block.width() + c) - lower, scales, residual, y, count);
      y += p.y_at.pixel;
      residual += p.residual_at.pixel;
    }
  }
}
template <class F, class Y>
struct FinishFor {
  static constexpr Finish value = finish_pixels<F, Y>;
};

struct Run {
  const Window& win;
  const Int8Operands& p;
  const int32_t* weights;
  const int32_t* lowers;  // null: nothing was raised
  Finish finish;

  // `pixels` pixels from (n, y, x) on, of block `number`, from copied lines.
  void block(StepSource s, int64_t n, int64_t y, int64_t x, int64_t pixels, int64_t number) const {
    alignas(64) int32_t sums[kTile * kBlock];
    const Block block = block_at(win.oc, number);
    const SumSteps* tiles =
        kVnni ? tiles_of<QuadTile>(block.vecs()) : tiles_of<PairTile>(block.vecs());
    const int32_t* w = weights + number * kBlock * win.kh * win.kw * steps_of(win.ic);
    Int8Target t(p, n, y, x, block.first);
    for (int64_t count = (pixels + kTile - 1) / kTile; count > 0; --count) {
      const int64_t now = pixels / count;
      tiles[now - 1](s, w, sums);
      finish(p, sums, lowers, now, t, block);
      pixels -= now;
      s.x += now * s.pixel;
      t.y += now * p.y_at.pixel;
      t.residual += now * p.residual_at.pixel;
    }
  }

  void copy(int64_t n, int64_t y, int64_t x, int64_t pixels, int64_t pitch, int32_t* to) const {
    const int64_t at = p.x_at.at(n, y, x);
    if (p.x_type == DType::kI8)
      copy_pixels(static_cast<const int8_t*>(p.x) + at, pixels, pitch, win.ic, to);
    else
      copy_pixels(static_cast<const uint8_t*>(p.x) + at, pixels, pitch, win.ic, to);
  }
};

struct PointwiseJobs {
  const Run& run;
  const PointwiseCut& cut;

  void operator()(int64_t job) const {
    const int64_t n = cut.image(job), y = cut.row_of_image(job), stride = run.win.stride;
    const int64_t steps = steps_of(run.win.ic);
    const Share pixels = cut.pixels(job), channels = cut.channels(job);
    int32_t* const copied = job_scratch_of<int32_t>(pixels.size() * steps);
    run.copy(n, y * stride, pixels.begin * stride, pixels.size(), stride * run.p.x_at.pixel,
             copied);
    for (int64_t b = channels.begin; b < channels.end; ++b)
      run.block({copied, steps, 0, 1, steps}, n, y, pixels.begin, pixels.size(), b);
  }
};

struct BandJobs {
  const Run& run;
  const BandCut& cut;

  void operator()(int64_t job) const {
    const Window& w = run.win;
    const int64_t n = cut.image(job), steps = steps_of(w.ic);
    const Share rows = cut.rows(job), channels = cut.channels(job);
    const int64_t lines = (rows.size() - 1) * w.stride + w.kh;
    const int64_t line = ((w.ow - 1) * w.stride + w.kw) * steps;
    int32_t* const copied = job_scratch_of<int32_t>(lines * line);
    for (int64_t i = 0; i < lines; ++i)
      copy_line(n, rows.begin * w.stride - w.top + i, copied + i * line, copied + (i + 1) * line);
    for (int64_t b = channels.begin; b < channels.end; ++b)
      for (int64_t y = rows.begin; y < rows.end; ++y) {
        const int32_t* const first = copied + (y - rows.begin) * w.stride * line;
        run.block({first, w.stride * steps, line, w.kh, w.kw * steps}, n, y, 0, w.ow, b);
      }
  }

  void copy_line(int64_t n, int64_t y, int32_t* to, int32_t* end) const {
    const Window& w = run.win;
    const int32_t zero = nothing(run.p.x_type);
    if (y < 0 || y >= w.h) {
      std::fill(to, end, zero);
      return;
    }
    const int64_t steps = steps_of(w.ic);
    to = std::fill_n(to, std::min(w.left * steps, end - to), zero);
    const int64_t pixels = std::min(w.w, (end - to) / steps);
    run.copy(n, y, 0, pixels, run.p.x_at.pixel, to);
    std::fill(to + pixels * steps, end, zero);
  }
};

class DirectInt8 : public Int8Conv {
 public:
  DirectInt8(const Window& window, const int8_t* w) : win_(window), packed_(pack(window, w)) {}

  void run(const Int8Operands& p) const override {
    const bool raised = kVnni && p.x_type == DType::kI8;
    const Run run{win_, p, packed_.steps.data(), raised ? packed_.lowers.data() : nullptr,
                  ForFinish<FinishFor>::of(p)};
    const int64_t blocks = block_count(win_.oc);
    if (win_.pointwise()) {
      const bool one_row = win_.stride == 1 && p.x_at.even(win_.h, win_.w) &&
                           p.y_at.even(win_.oh, win_.ow) &&
                           (!p.residual || p.residual_at.even(win_.oh, win_.ow));
      const PointwiseCut cut(win_, one_row, kTile, blocks);
      parallel_jobs(cut.jobs, PointwiseJobs{run, cut});
    } else {
      const int64_t line = ((win_.ow - 1) * win_.stride + win_.kw) * steps_of(win_.ic);
      const BandCut cut(win_, line * 4, blocks);
      parallel_jobs(cut.jobs, BandJobs{run, cut});
    }
  }
  int64_t weight_bytes() const override { return packed_.steps.bytes() + packed_.lowers.bytes(); }

 private:
  Window win_;
  Packed packed_;
};

}  // namespace

std::unique_ptr<Int8Conv> make_direct_int8(const Window& window, const int8_t* w) {
  return std::make_unique<DirectInt8>(window, w);
}

}  // namespace sextant::kernels::cpu::SEXTANT_SIMD
SEXTANT_SIMD_END();
