// SPDX-License-Identifier: Apache-2.0
// Direct convolutions in int8. The lines that a band of output rows reads are copied with their
// padding, widened to 16 bits, or, where there is VNNI, as bytes; then tiles of pixels by a block of
// channels are summed in registers (dot.h). The values under a row of the kernel are one run, cut into
// steps whatever the number of channels: the last step reads on, times weights of zero. On AVX2 a
// step of a full tile is 12 vpmaddwd and 12 additions for 192 products, which is half the cycles of
// f32.
#include <algorithm>

#include "kernels/cpu/conv/cuts.h"
#include "kernels/cpu/conv/scratch.h"
#include "kernels/cpu/conv/simd_int8/finish_int8.h"
#include "kernels/cpu/conv/simd_int8/per_isa.h"

SEXTANT_SIMD_BEGIN();
namespace sextant::kernels::cpu::SEXTANT_SIMD {
namespace {

using Value = std::conditional_t<kVnni, uint8_t, int16_t>;  // what the lines are copied to

int64_t steps_of(int64_t values) { return (values + kPerStep - 1) / kPerStep; }
// Values of memory for `values`, and what the last step of the last run may read beyond.
int64_t with_rest(int64_t values) { return values + kPerStep; }

template <class X>
SEXTANT_SIMD_INLINE Value value_of(X x) {
  if constexpr (!kVnni)
    return x;
  else
    return static_cast<uint8_t>(x) ^ (std::is_signed_v<X> ? 0x80 : 0);
}
// What padding is.
Value nothing(DType x_type) { return kVnni && x_type == DType::kI8 ? kRaise : 0; }

template <class X>
void copy_pixels(const X* from, int64_t pixels, int64_t pitch, int64_t channels, Value* to) {
  if (pitch == channels) {
    for (int64_t i = 0; i < pixels * channels; ++i) to[i] = value_of(from[i]);
    return;
  }
  for (int64_t i = 0; i < pixels; ++i, from += pitch, to += channels)
    for (int64_t c = 0; c < channels; ++c) to[c] = value_of(from[c]);
}

struct Packed {
  Aligned<int32_t> steps;   // [blocks, kh, steps of a run, lanes of the block]
  Aligned<int32_t> starts;  // [blocks, kBlock]: minus kRaise times the sum of the weights
};

Packed pack(const Window& win, const int8_t* w) {
  const int64_t run = win.kw * win.ic, steps = steps_of(run);
  Packed packed{Aligned<int32_t>(win.kh * steps * width_before(win.oc, block_count(win.oc))),
                Aligned<int32_t>(block_count(win.oc) * kBlock)};
  std::fill_n(packed.steps.data(), packed.steps.count(), 0);
  std::fill_n(packed.starts.data(), packed.starts.count(), 0);
  using Weight = std::conditional_t<kVnni, int8_t, int16_t>;
  for (int64_t o = 0; o < win.oc; ++o) {
    const Block block = block_at(win.oc, o / kBlock);
    auto* to =
        reinterpret_cast<Weight*>(packed.steps.data() + o / kBlock * win.kh * steps * kBlock);
    for (int64_t y = 0; y < win.kh; ++y)
      for (int64_t i = 0; i < run; ++i) {
        const int8_t value = w[(o * win.kh + y) * run + i];
        const int64_t step = y * steps + i / kPerStep;
        to[(step * block.width() + o % kBlock) * kPerStep + i % kPerStep] = value;
        packed.starts.data()[o] -= kRaise * value;
      }
  }
  return packed;
}

struct Run {
  const Window& win;
  const Int8Operands& p;
  const int32_t* weights;
  const int32_t* starts;  // null: nothing was raised
  Finish finish;

  // `pixels` pixels from (n, y, x) on, of block `number`, from the values of the first at `from`, those
  // of kernel rows `line` values apart.
  void block(const Value* from, int64_t pixel, int64_t line, int64_t n, int64_t y, int64_t x,
             int64_t pixels, int64_t number) const {
    constexpr int64_t kBytes = sizeof(Value);
    alignas(64) int32_t sums[kTile * kBlock];
    const Block block = block_at(win.oc, number);
    const SumSteps* tiles =
        kVnni ? tiles_of<QuadTile>(block.vecs()) : tiles_of<PairTile>(block.vecs());
    const int64_t steps = steps_of(win.kw * win.ic);
    const int32_t* w = weights + number * kBlock * win.kh * steps;
    const int32_t* start = starts ? starts + number * kBlock : nullptr;
    StepSource s{reinterpret_cast<const std::byte*>(from), pixel * kBytes, line * kBytes, win.kh,
                 steps};
    Int8Target t(p, n, y, x, block.first);
    for (int64_t count = (pixels + kTile - 1) / kTile; count > 0; --count) {
      const int64_t now = pixels / count;
      tiles[now - 1](s, w, start, sums);
      finish(p, {sums, 1, now, 0, block.width()}, t, block);
      pixels -= now;
      s.x += now * s.pixel;
      t.y += now * p.y_at.pixel;
      t.residual += now * p.residual_at.pixel;
    }
  }

  // `pixels` pixels from (n, y, x) on, `step` apart.
  void copy(int64_t n, int64_t y, int64_t x, int64_t pixels, int64_t step, Value* to) const {
    const int64_t at = p.x_at.at(n, y, x), pitch = step * p.x_at.pixel;
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
    const Share pixels = cut.pixels(job), channels = cut.channels(job);
    const Value* from;
    int64_t pixel = run.win.ic;
    if (readable_in_place()) {
      const int64_t at = run.p.x_at.at(n, y * stride, pixels.begin * stride);
      from = static_cast<const Value*>(run.p.x) + at;
      pixel = stride * run.p.x_at.pixel;
    } else {
      auto* const copied = job_scratch_of<Value>(with_rest(pixels.size() * run.win.ic));
      run.copy(n, y * stride, pixels.begin * stride, pixels.size(), stride, copied);
      from = copied;
    }
    for (int64_t b = channels.begin; b < channels.end; ++b)
      run.block(from, pixel, 0, n, y, pixels.begin, pixels.size(), b);
  }
  // Unsigned bytes where there is VNNI, without a step that reads beyond the last pixel.
  bool readable_in_place() const {
    return kVnni && run.p.x_type == DType::kU8 && run.win.ic % kPerStep == 0;
  }
};

struct BandJobs {
  const Run& run;
  const BandCut& cut;

  void operator()(int64_t job) const {
    const Window& w = run.win;
    const int64_t n = cut.image(job);
    const Share rows = cut.rows(job), channels = cut.channels(job);
    const int64_t lines = (rows.size() - 1) * w.stride + w.kh;
    const int64_t line = ((w.ow - 1) * w.stride + w.kw) * w.ic;
    auto* const copied = job_scratch_of<Value>(with_rest(lines * line));
    for (int64_t i = 0; i < lines; ++i)
      copy_line(n, rows.begin * w.stride - w.top + i, copied + i * line, copied + (i + 1) * line);
    for (int64_t b = channels.begin; b < channels.end; ++b)
      for (int64_t y = rows.begin; y < rows.end; ++y)
        run.block(copied + (y - rows.begin) * w.stride * line, w.stride * w.ic, line, n, y, 0, w.ow,
                  b);
  }

  void copy_line(int64_t n, int64_t y, Value* to, Value* end) const {
    const Window& w = run.win;
    const Value zero = nothing(run.p.x_type);
    if (y < 0 || y >= w.h) {
      std::fill(to, end, zero);
      return;
    }
    to = std::fill_n(to, std::min<int64_t>(w.left * w.ic, end - to), zero);
    const int64_t pixels = std::min<int64_t>(w.w, (end - to) / w.ic);
    run.copy(n, y, 0, pixels, 1, to);
    std::fill(to + pixels * w.ic, end, zero);
  }
};

class DirectInt8 : public Int8Conv {
 public:
  DirectInt8(const Window& window, const int8_t* w) : win_(window), packed_(pack(window, w)) {}

  void run(const Int8Operands& p) const override {
    const bool raised = kVnni && p.x_type == DType::kI8;
    const Run run{win_, p, packed_.steps.data(), raised ? packed_.starts.data() : nullptr,
                  ForFinish<FinishSums>::of(p)};
    const int64_t blocks = block_count(win_.oc);
    if (win_.pointwise()) {
      const bool one_row = win_.stride == 1 && p.x_at.even(win_.h, win_.w) &&
                           p.y_at.even(win_.oh, win_.ow) &&
                           (!p.residual || p.residual_at.even(win_.oh, win_.ow));
      const PointwiseCut cut(win_, one_row, kTile, blocks);
      parallel_jobs(cut.jobs, PointwiseJobs{run, cut});
    } else {
      const int64_t line = ((win_.ow - 1) * win_.stride + win_.kw) * win_.ic;
      const BandCut cut(win_, line * static_cast<int64_t>(sizeof(Value)), blocks);
      parallel_jobs(cut.jobs, BandJobs{run, cut});
    }
  }
  int64_t weight_bytes() const override { return packed_.steps.bytes() + packed_.starts.bytes(); }

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
