// SPDX-License-Identifier: Apache-2.0
// Converts an assignment to rows of labels, one thread per anchor, and sums its target scores by
// blocks.
#include "kernels/cuda/device/each.cuh"
#include "kernels/cuda/device/pack.cuh"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/detection/loss_targets.h"
#include "kernels/math/box.h"

namespace sextant::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// partial [2][blocks]: sums of the scores, anchors that have one
template <int kBlock>
__global__ void __launch_bounds__(kBlock)
    loss_targets_kernel(LossTargets p, Divider<uint32_t> anchors, uint32_t total, double* partial) {
  SEXTANT_SHARED(double[kBlock], lanes);
  const uint32_t at = blockIdx.x * kBlock + threadIdx.x;
  double score = 0.0;
  int32_t g = -1;
  if (at < total) {
    const uint32_t image = anchors.quotient(at);
    const boxes::Place place = boxes::place_of(p.maps, image, anchors.remainder(at));
    int64_t row = place.row;
    for (int l = 0; l < place.level; ++l)
      row += p.maps.batch * p.maps.level[l].height * p.maps.level[l].width * p.maps.per_cell;
    g = p.assigned[at];
    const double target = p.target[at];
    p.label[row] = g < 0 ? -1 : p.gt_classes[p.gt_begin[image] + g];
    p.row_target[row] = target;
    if (p.object != nullptr) p.object[row] = g < 0 ? -1 : 0;
    if (g >= 0) score = target;
  }
  const int positives = __syncthreads_count(g >= 0);
  const double sum = block_sum<kBlock>(score, lanes);
  if (threadIdx.x == 0) {
    partial[blockIdx.x] = sum;
    partial[gridDim.x + blockIdx.x] = static_cast<double>(positives);
  }
}

template <int kBlock>
__global__ void __launch_bounds__(kBlock)
    target_scores_kernel(const double* partial, int64_t blocks, double undivided,
                         TargetScores* scores) {
  SEXTANT_SHARED(double[kBlock], lanes);
  double sum = 0.0;
  double positives = 0.0;
  for (int64_t i = threadIdx.x; i < blocks; i += kBlock) {
    sum += partial[i];
    positives += partial[blocks + i];
  }
  sum = block_sum<kBlock>(sum, lanes);
  __syncthreads();
  positives = block_sum<kBlock>(positives, lanes);
  if (threadIdx.x == 0) *scores = {sum, positives, sum > undivided ? sum : 1.0};
}

struct DivisorOp {
  TargetScores* scores;
  double undivided;
  __device__ __forceinline__ void operator()(uint32_t) const {
    scores->divisor = scores->sum > undivided ? scores->sum : 1.0;
  }
};

int64_t total_of(const LossTargets& p) { return p.maps.batch * p.maps.anchors(); }
int64_t blocks_of(const LossTargets& p) { return (total_of(p) + kThreads - 1) / kThreads; }

}  // namespace

int64_t workspace_bytes(const LossTargets& p) {
  return 2 * blocks_of(p) * static_cast<int64_t>(sizeof(double));
}

void loss_targets(const LossTargets& p, void* workspace, Stream stream) {
  const int64_t total = total_of(p), blocks = blocks_of(p);
  check(total < (int64_t{1} << 31), "loss_targets: {} anchors, must be below 2^31", total);
  auto* partial = static_cast<double*>(workspace);
  if (total > 0)
    launch(SEXTANT_KERNEL(loss_targets_kernel<kThreads>), static_cast<unsigned>(blocks), kThreads,
           0, stream, p, Divider<uint32_t>(p.maps.anchors()), static_cast<uint32_t>(total),
           partial);
  launch(SEXTANT_KERNEL(target_scores_kernel<kThreads>), 1, kThreads, 0, stream, partial, blocks,
         p.undivided, p.scores);
  if (!p.across) return;
  p.across->sum(&p.scores->sum, 2, DType::kF64, Device::kCuda);  // positives follow
  for_each_item("loss_targets", DivisorOp{p.scores, p.undivided}, 1, stream);
}

}  // namespace sextant::kernels::cuda
