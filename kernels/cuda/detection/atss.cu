// SPDX-License-Identifier: Apache-2.0
// Adaptive training sample selection: one block per box finds its candidates level by level and
// their threshold, and claims anchors; one thread per anchor resolves conflicts.
#include "kernels/cuda/detection/assign_topk.cuh"
#include "kernels/cuda/device/each.cuh"
#include "kernels/detection/atss.h"

namespace sextant::kernels::cuda {
namespace {

using namespace assigning;

struct Atss {
  const double* pred_boxes;
  const double* points;
  const double* gt_boxes;
  const double* anchor_boxes;
  const int64_t* gt_begin;
  int64_t batch, anchors;
  int64_t level_anchors[kMaxLevels];
  int levels, topk;
  double eps;
  int32_t* assigned;
  double* target;
};

struct ClearOp {
  int32_t* assigned;
  double* target;
  __device__ __forceinline__ void operator()(uint32_t i) const {
    assigned[i] = -1;
    target[i] = 0.0;
  }
};

template <int kBlock>
__global__ void __launch_bounds__(kBlock) select_kernel(Atss p) {
  constexpr int kMaxCandidates = kMaxLevels * static_cast<int>(kMaxTopk);
  SEXTANT_SHARED(Ranked[kBlock / 32], warps);
  SEXTANT_SHARED(int32_t[kMaxCandidates], candidates);
  SEXTANT_SHARED(double[kMaxCandidates], overlaps);
  SEXTANT_SHARED(double[1], threshold);
  const int64_t box = blockIdx.x;
  if (box >= p.gt_begin[p.batch]) return;
  const int64_t n = image_of(p.gt_begin, p.batch, box);
  const double* corners = p.gt_boxes + 4 * box;
  const double x = (corners[0] + corners[2]) / 2.0;
  const double y = (corners[1] + corners[3]) / 2.0;
  int count = 0;
  int64_t first = 0;
  for (int l = 0; l < p.levels; ++l) {
    TopList list;
    for (int64_t a = first + threadIdx.x; a < first + p.level_anchors[l]; a += kBlock) {
      const double dx = p.points[2 * a] - x;
      const double dy = p.points[2 * a + 1] - y;
      list.offer(-(dx * dx + dy * dy), static_cast<int32_t>(a), p.topk);
    }
    count += merge_lists(list, p.topk, warps, candidates + count);
    first += p.level_anchors[l];
  }
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kBlock)
    overlaps[i] = anchor_iou(corners, p.anchor_boxes + 4 * static_cast<int64_t>(candidates[i]));
  __syncthreads();
  if (threadIdx.x == 0) {
    double mean = 0.0;
    for (int i = 0; i < count; ++i) mean += overlaps[i];
    mean /= static_cast<double>(count);
    double squares = 0.0;
    for (int i = 0; i < count; ++i) squares += (overlaps[i] - mean) * (overlaps[i] - mean);
    threshold[0] = mean + (count > 1 ? sqrt(squares / static_cast<double>(count - 1)) : 0.0);
  }
  __syncthreads();
  const auto g = static_cast<int32_t>(box - p.gt_begin[n]);
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kBlock)
    if (overlaps[i] > threshold[0] &&
        inside(p.points + 2 * static_cast<int64_t>(candidates[i]), corners, p.eps))
      claim(p.assigned + n * p.anchors + candidates[i], g);
}

struct SettleOp {
  Atss p;
  Divider<uint32_t> anchors;
  __device__ __forceinline__ void operator()(uint32_t i) const {
    int32_t g = p.assigned[i];
    if (g == -1) return;
    const int64_t n = anchors.quotient(i);
    const double* own = p.anchor_boxes + 4 * static_cast<int64_t>(anchors.remainder(i));
    const double* boxes = p.gt_boxes + 4 * p.gt_begin[n];
    if (g == kConflict) {
      const int64_t count = p.gt_begin[n + 1] - p.gt_begin[n];
      double best = anchor_iou(boxes, own);
      g = 0;
      for (int64_t k = 1; k < count; ++k) {
        const double u = anchor_iou(boxes + 4 * k, own);
        if (u > best) {
          best = u;
          g = static_cast<int32_t>(k);
        }
      }
      p.assigned[i] = g;
    }
    const double u =
        iou(boxes + 4 * static_cast<int64_t>(g), p.pred_boxes + 4 * static_cast<int64_t>(i), p.eps);
    p.target[i] = u > 0.0 ? u : 0.0;  // also for NaN
  }
};

}  // namespace

void atss_assign(const AtssAssign& p, void*, Stream stream) {
  check_labels("atss_assign", p);
  check(p.topk >= 0 && p.topk <= kMaxTopk, "atss_assign: topk {}, must be 0 to {}", p.topk,
        kMaxTopk);
  const int64_t n = p.batch * p.anchors;
  if (n == 0) return;
  Atss t{};
  t.pred_boxes = p.pred_boxes;
  t.points = p.points;
  t.gt_boxes = p.gt_boxes;
  t.anchor_boxes = p.anchor_boxes;
  t.gt_begin = p.gt_begin;
  t.batch = p.batch;
  t.anchors = p.anchors;
  std::copy(p.level_anchors.begin(), p.level_anchors.end(), t.level_anchors);
  t.levels = p.levels;
  t.topk = static_cast<int>(p.topk);
  t.eps = p.eps;
  t.assigned = p.assigned;
  t.target = p.target;
  for_each_item("atss_assign", ClearOp{p.assigned, p.target}, n, stream);
  if (p.boxes == 0) return;
  launch(SEXTANT_KERNEL(select_kernel<kTopThreads>), static_cast<unsigned>(p.boxes), kTopThreads, 0,
         stream, t);
  for_each_item("atss_assign", SettleOp{t, Divider<uint32_t>(p.anchors)}, n, stream);
}

}  // namespace sextant::kernels::cuda
