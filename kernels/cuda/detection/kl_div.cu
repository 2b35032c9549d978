// SPDX-License-Identifier: Apache-2.0
// Kullback-Leibler distillation: loss and gradient in one kernel that reads both tensors twice. The
// softmaxes' maxima and sums are found in one pass, the sums so far being rescaled whenever a
// larger value comes (Milakov and Gimelshein 2018).
//
// Long strided columns (channel-wise distillation) are a block's strip of eight channels, short
// contiguous ones (classes, bins) a few lanes of a warp each. In double, as on the CPU.
#include "kernels/cuda/device/pack.cuh"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/detection/kl_div.h"

namespace sextant::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kStrip = 8;     // channels of a block: the 32 bytes that memory is read by
constexpr int kFewLanes = 8;  // lanes of a contiguous column of up to kShortAxis values
constexpr int kShortAxis = 32;

__device__ __forceinline__ double sigmoid_of(double x) {
  const double e = exp(-fabs(x));
  return (x >= 0.0 ? 1.0 : e) / (1.0 + e);
}

template <bool kSigmoid>
__device__ __forceinline__ double score_of(float x) {
  return kSigmoid ? sigmoid_of(static_cast<double>(x)) : static_cast<double>(x);
}

// A set of elements of one column: maxima, sums of exp((x - top) / T), and the sum of the
// teacher's exponentials times (teacher - student) / T.
struct Softmaxes {
  double student_top, student_sum, teacher_top, teacher_sum, cross;

  __device__ __forceinline__ static Softmaxes none() {
    const double lowest = -__int_as_float(0x7f800000);
    return {lowest, 0.0, lowest, 0.0, 0.0};
  }
  __device__ __forceinline__ void add(double student, double teacher, double inverse) {
    const double s = exp(-fabs(student - student_top) * inverse);
    if (student > student_top) {
      student_sum = student_sum * s + 1.0;
      student_top = student;
    } else {
      student_sum += s;
    }
    const double t = exp(-fabs(teacher - teacher_top) * inverse);
    const double gap = (teacher - student) * inverse;
    if (teacher > teacher_top) {
      teacher_sum = teacher_sum * t + 1.0;
      cross = cross * t + gap;
      teacher_top = teacher;
    } else {
      teacher_sum += t;
      cross += t * gap;
    }
  }
  __device__ __forceinline__ void join(const Softmaxes& o, double inverse) {
    const auto share = [&](double top, double other) {
      return top >= other ? 1.0 : exp((top - other) * inverse);
    };
    const double s = share(student_top, o.student_top), so = share(o.student_top, student_top);
    student_sum = student_sum * s + o.student_sum * so;
    student_top = s == 1.0 ? student_top : o.student_top;
    const double t = share(teacher_top, o.teacher_top), to = share(o.teacher_top, teacher_top);
    teacher_sum = teacher_sum * t + o.teacher_sum * to;
    cross = cross * t + o.cross * to;
    teacher_top = t == 1.0 ? teacher_top : o.teacher_top;
  }
  __device__ __forceinline__ double divergence(double inverse) const {
    const double kl = cross / teacher_sum + (student_top - teacher_top) * inverse +
                      log(student_sum / teacher_sum);
    return kl < 0.0 ? 0.0 : kl;
  }
};

struct Problem {
  const float* student;
  const float* teacher;
  float* grad;
  int64_t columns;  // contiguous: all; strips: inner
  int64_t axis;
  double inverse;     // 1 / T
  double grad_scale;  // times T
  bool accumulate;
};

// The gradients of kWidth neighbouring elements.
template <bool kSigmoid, int kWidth>
__device__ __forceinline__ void write_gradient(const Problem& p, const Softmaxes* column,
                                               int64_t at) {
  const Pack<kWidth> student = load<kWidth>(p.student + at);
  const Pack<kWidth> teacher = load<kWidth>(p.teacher + at);
  Pack<kWidth> grad{};
  if (p.accumulate) grad = load<kWidth>(p.grad + at);
#pragma unroll
  for (int v = 0; v < kWidth; ++v) {
    const Softmaxes& c = column[v];
    const double s = score_of<kSigmoid>(student.v[v]);
    const double t = score_of<kSigmoid>(teacher.v[v]);
    double g = p.grad_scale * (exp((s - c.student_top) * p.inverse) / c.student_sum -
                               exp((t - c.teacher_top) * p.inverse) / c.teacher_sum);
    if (kSigmoid) g *= s * (1.0 - s);
    grad.v[v] = static_cast<float>(static_cast<double>(grad.v[v]) + g);
  }
  store<kWidth>(p.grad + at, grad);
}

// A block's strip of kStrip channels: threadIdx.x has kWidth of them, threadIdx.y some of the
// positions along the axis. blockIdx.x is batch * strips + strip.
template <bool kSigmoid, int kWidth>
__global__ void __launch_bounds__(kThreads)
    strip_kernel(Problem p, int64_t strips, double* partial) {
  constexpr int kAcross = kStrip / kWidth;
  constexpr int kLanes = kThreads / kAcross;
  SEXTANT_SHARED(Softmaxes[kThreads], lanes);
  SEXTANT_SHARED(Softmaxes[kStrip], column);
  const int x = static_cast<int>(threadIdx.x);
  const int y = static_cast<int>(threadIdx.y);
  const int64_t channel = (blockIdx.x % strips) * kStrip + x * kWidth;
  const bool active = channel < p.columns;
  const int64_t base = (blockIdx.x / strips) * p.axis * p.columns + channel;
  Softmaxes mine[kWidth];
#pragma unroll
  for (int v = 0; v < kWidth; ++v) mine[v] = Softmaxes::none();
  if (active)
    for (int64_t a = y; a < p.axis; a += kLanes) {
      const Pack<kWidth> student = load<kWidth>(p.student + base + a * p.columns);
      const Pack<kWidth> teacher = load<kWidth>(p.teacher + base + a * p.columns);
#pragma unroll
      for (int v = 0; v < kWidth; ++v)
        mine[v].add(score_of<kSigmoid>(student.v[v]), score_of<kSigmoid>(teacher.v[v]), p.inverse);
    }
#pragma unroll
  for (int v = 0; v < kWidth; ++v) {
    __syncthreads();
    lanes[y * kAcross + x] = mine[v];
    for (int half = kLanes / 2; half > 0; half /= 2) {
      __syncthreads();
      if (y < half) {
        mine[v].join(lanes[(y + half) * kAcross + x], p.inverse);
        lanes[y * kAcross + x] = mine[v];
      }
    }
    if (y == 0) column[x * kWidth + v] = mine[v];
  }
  __syncthreads();
  if (x == 0 && y == 0) {
    double sum = 0.0;
    for (int c = 0; c < kStrip && channel + c < p.columns; ++c)
      sum += column[c].divergence(p.inverse);
    partial[blockIdx.x] = sum;
  }
  if (p.grad == nullptr || !active) return;
  for (int64_t a = y; a < p.axis; a += kLanes)
    write_gradient<kSigmoid, kWidth>(p, &column[x * kWidth], base + a * p.columns);
}

// kLanes lanes a contiguous column.
template <bool kSigmoid, int kLanes>
__global__ void __launch_bounds__(kThreads) row_kernel(Problem p, double* partial) {
  constexpr int kColumns = kThreads / kLanes;
  SEXTANT_SHARED(double[kColumns], losses);
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int row = static_cast<int>(threadIdx.x) / kLanes;
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kColumns + row;
  const bool active = column < p.columns;
  const int64_t base = column * p.axis;
  Softmaxes mine = Softmaxes::none();
  if (active)
    for (int64_t a = lane; a < p.axis; a += kLanes)
      mine.add(score_of<kSigmoid>(p.student[base + a]), score_of<kSigmoid>(p.teacher[base + a]),
               p.inverse);
  constexpr unsigned kAll = 0xffffffffu;
  for (int half = kLanes / 2; half > 0; half /= 2) {
    const auto below = [&](double value) {
      return __shfl_down_sync(kAll, value, static_cast<unsigned>(half), kLanes);
    };
    const Softmaxes other{below(mine.student_top), below(mine.student_sum), below(mine.teacher_top),
                          below(mine.teacher_sum), below(mine.cross)};
    mine.join(other, p.inverse);
  }
  const auto first = [&](double value) { return __shfl_sync(kAll, value, 0, kLanes); };
  const Softmaxes whole{first(mine.student_top), first(mine.student_sum), first(mine.teacher_top),
                        first(mine.teacher_sum), first(mine.cross)};
  if (lane == 0) losses[row] = active ? whole.divergence(p.inverse) : 0.0;
  __syncthreads();
  if (threadIdx.x == 0) {
    double sum = 0.0;
    for (int r = 0; r < kColumns; ++r) sum += losses[r];
    partial[blockIdx.x] = sum;
  }
  if (p.grad == nullptr || !active) return;
  for (int64_t a = lane; a < p.axis; a += kLanes) write_gradient<kSigmoid, 1>(p, &whole, base + a);
}

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

int lanes_of(const KlDiv& p) { return p.axis <= kShortAxis ? kFewLanes : kHostWarp; }

int64_t blocks_of(const KlDiv& p) {
  if (p.inner == 1) return ceil_div(p.outer, kThreads / lanes_of(p));
  return p.outer * ceil_div(p.inner, kStrip);
}

template <bool kSigmoid>
void start(const KlDiv& p, double* partial, Stream stream) {
  const Problem problem{p.student,
                        p.teacher,
                        p.grad,
                        p.inner == 1 ? p.outer : p.inner,
                        p.axis,
                        1.0 / p.temperature,
                        p.grad_scale * p.temperature,
                        p.accumulate};
  const auto blocks = static_cast<unsigned>(blocks_of(p));
  if (p.inner == 1) {
    if (lanes_of(p) == kFewLanes)
      launch(SEXTANT_KERNEL(row_kernel<kSigmoid, kFewLanes>), blocks, kThreads, 0, stream, problem,
             partial);
    else
      launch(SEXTANT_KERNEL(row_kernel<kSigmoid, 32>), blocks, kThreads, 0, stream, problem,
             partial);
    return;
  }
  const int64_t strips = ceil_div(p.inner, kStrip);
  const auto with_width = [&](const auto& kernel, unsigned width) {
    const unsigned across = kStrip / width;
    launch(kernel, blocks, dim3(across, kThreads / across), 0, stream, problem, strips, partial);
  };
  if (p.inner % kPackWidth == 0 && aligned_to_pack({p.student, p.teacher, p.grad}))
    with_width(SEXTANT_KERNEL(strip_kernel<kSigmoid, kPackWidth>), kPackWidth);
  else
    with_width(SEXTANT_KERNEL(strip_kernel<kSigmoid, 1>), 1);
}

}  // namespace

int64_t workspace_bytes(const KlDiv& p) {
  return blocks_of(p) * static_cast<int64_t>(sizeof(double));
}

void kl_div(const KlDiv& p, void* workspace, Stream stream) {
  check(p.outer >= 0 && p.axis >= 0 && p.inner >= 0, "kl_div: [{},{},{}] is not a tensor", p.outer,
        p.axis, p.inner);
  const int64_t blocks = p.axis == 0 ? 0 : blocks_of(p);
  check(blocks <= 0x7FFFFFFF, "kl_div: [{},{},{}] takes {} blocks, at most 2^31 - 1", p.outer,
        p.axis, p.inner, blocks);
  auto* partial = static_cast<double*>(workspace);
  if (blocks > 0) {
    if (p.sigmoid)
      start<true>(p, partial, stream);
    else
      start<false>(p, partial, stream);
  }
  sum_partials(partial, blocks, p.temperature * p.temperature, p.sum, stream);
}

}  // namespace sextant::kernels::cuda
