// SPDX-License-Identifier: Apache-2.0
// Task-aligned assignment: everything is cleared; one block per box finds its best anchors and
// claims them; one thread per anchor resolves conflicts and updates each box's maxima; targets are
// normalised. Maxima of non-negative doubles are those of their bits, so they need no order.
#include <cstring>

#include "kernels/cuda/detection/assign_topk.cuh"
#include "kernels/cuda/device/each.cuh"
#include "kernels/detection/assign.h"

namespace sextant::kernels::cuda {
namespace {

using namespace assigning;

using Bits = unsigned long long;
__device__ __forceinline__ Bits bits_of(double v) {
  Bits bits = 0;
  memcpy(&bits, &v, sizeof v);
  return bits;
}
__device__ __forceinline__ double double_of(Bits bits) {
  double v = 0.0;
  memcpy(&v, &bits, sizeof v);
  return v;
}

struct Tal {
  const double* pred_boxes;
  const double* points;
  const double* gt_boxes;
  const int32_t* gt_classes;
  const int64_t* gt_begin;
  int64_t batch, anchors, boxes;
  double eps;
  int32_t* assigned;
  double* target;
  ScoreBlock scores[kMaxScoreBlocks];
  int topk;
  Alignment alignment;
  Bits* maxima;  // [boxes][2]: of the overlap, of the alignment

  __device__ __forceinline__ double overlap_of(int64_t n, int64_t a, int64_t box) const {
    return iou(gt_boxes + 4 * box, pred_boxes + 4 * (n * anchors + a), eps);
  }
  __device__ __forceinline__ double alignment_of(int64_t n, int64_t a, int64_t box,
                                                 double overlap_with_box) const {
    return alignment(scores_at(scores, n, a)[gt_classes[box]], overlap_with_box);
  }
};

struct ClearOp {
  Tal p;
  __device__ __forceinline__ void operator()(uint32_t i) const {
    if (i < p.batch * p.anchors) {
      p.assigned[i] = -1;
      p.target[i] = 0.0;
    }
    if (i < 2 * p.boxes) p.maxima[i] = 0;
  }
};

template <int kBlock>
__global__ void __launch_bounds__(kBlock) select_kernel(Tal p) {
  SEXTANT_SHARED(Ranked[kBlock / 32], warps);
  SEXTANT_SHARED(int32_t[kMaxTopk], taken);
  const int64_t box = blockIdx.x;
  if (box >= p.gt_begin[p.batch]) return;
  const int64_t n = image_of(p.gt_begin, p.batch, box);
  const double* corners = p.gt_boxes + 4 * box;
  TopList list;
  for (int64_t a = threadIdx.x; a < p.anchors; a += kBlock) {
    if (!inside(p.points + 2 * a, corners, p.eps)) continue;
    const double t = p.alignment_of(n, a, box, p.overlap_of(n, a, box));
    if (t > 0.0) list.offer(t, static_cast<int32_t>(a), p.topk);
  }
  const int found = merge_lists(list, p.topk, warps, taken);
  const auto g = static_cast<int32_t>(box - p.gt_begin[n]);
  int32_t* assigned = p.assigned + n * p.anchors;
  if (static_cast<int>(threadIdx.x) < found) claim(assigned + taken[threadIdx.x], g);
  // Remaining places go to the first anchors of alignment 0: all that are not taken yet, if they
  // are inside.
  const int64_t left = p.topk - found;
  const int64_t end = left + found < p.anchors ? left + found : p.anchors;
  for (int64_t a = threadIdx.x; left > 0 && a < end; a += kBlock) {
    int64_t place = a;
    bool is_taken = false;
    for (int k = 0; k < found; ++k) {
      if (taken[k] < a) --place;
      is_taken = is_taken || taken[k] == a;
    }
    if (!is_taken && place < left && inside(p.points + 2 * a, corners, p.eps))
      claim(assigned + a, g);
  }
}

struct SettleOp {
  Tal p;
  Divider<uint32_t> anchors;
  __device__ __forceinline__ void operator()(uint32_t i) const {
    int32_t g = p.assigned[i];
    if (g == -1) return;
    const int64_t n = anchors.quotient(i);
    const int64_t a = anchors.remainder(i);
    const int64_t first = p.gt_begin[n];
    if (g == kConflict) {
      double best = -1.0;
      g = 0;
      for (int64_t box = first; box < p.gt_begin[n + 1]; ++box) {
        const double u = p.overlap_of(n, a, box);
        if (u > best) {
          best = u;
          g = static_cast<int32_t>(box - first);
        }
      }
      p.assigned[i] = g;
    }
    const double u = p.overlap_of(n, a, first + g);
    const double t = p.alignment_of(n, a, first + g, u);
    p.target[i] = t;
    Bits* maxima = p.maxima + 2 * (first + g);
    if (u > 0.0) atomicMax(maxima, bits_of(u));
    if (t > 0.0) atomicMax(maxima + 1, bits_of(t));
  }
};

struct NormaliseOp {
  Tal p;
  Divider<uint32_t> anchors;
  __device__ __forceinline__ void operator()(uint32_t i) const {
    const int32_t g = p.assigned[i];
    if (g < 0) return;
    const Bits* maxima = p.maxima + 2 * (p.gt_begin[anchors.quotient(i)] + g);
    const double most_overlap = double_of(maxima[0]);
    const double most_alignment = double_of(maxima[1]);
    p.target[i] = p.target[i] * most_overlap / (most_alignment + p.eps);
  }
};

struct InsideOp {
  const double* points;
  const double* gt_boxes;
  const int64_t* gt_begin;
  double eps;
  Divider<uint32_t> anchors;
  uint8_t* result;
  __device__ __forceinline__ void operator()(uint32_t i) const {
    const uint32_t n = anchors.quotient(i);
    const double* point = points + 2 * static_cast<int64_t>(anchors.remainder(i));
    bool any = false;
    for (int64_t box = gt_begin[n]; box < gt_begin[n + 1] && !any; ++box)
      any = inside(point, gt_boxes + 4 * box, eps);
    result[i] = any ? 1 : 0;
  }
};

}  // namespace

int64_t workspace_bytes(const TaskAlignedAssign& p) {
  return 2 * p.boxes * static_cast<int64_t>(sizeof(Bits));
}

void task_aligned_assign(const TaskAlignedAssign& p, void* workspace, Stream stream) {
  check_labels("task_aligned_assign", p);
  check(p.topk >= 0 && p.topk <= kMaxTopk, "task_aligned_assign: topk {}, must be 0 to {}", p.topk,
        kMaxTopk);
  const int64_t n = p.batch * p.anchors;
  if (n == 0) return;
  Tal t{};
  t.pred_boxes = p.pred_boxes;
  t.points = p.points;
  t.gt_boxes = p.gt_boxes;
  t.gt_classes = p.gt_classes;
  t.gt_begin = p.gt_begin;
  t.batch = p.batch;
  t.anchors = p.anchors;
  t.boxes = p.boxes;
  t.eps = p.eps;
  t.assigned = p.assigned;
  t.target = p.target;
  std::copy(p.scores.begin(), p.scores.end(), t.scores);
  t.topk = static_cast<int>(p.topk);
  t.alignment = {p.alpha, p.beta, p.logits};
  t.maxima = static_cast<Bits*>(workspace);
  const Divider<uint32_t> anchors(p.anchors);
  for_each_item("task_aligned_assign", ClearOp{t}, std::max(n, 2 * p.boxes), stream);
  if (p.boxes == 0) return;
  launch(SEXTANT_KERNEL(select_kernel<kTopThreads>), static_cast<unsigned>(p.boxes), kTopThreads, 0,
         stream, t);
  for_each_item("task_aligned_assign", SettleOp{t, anchors}, n, stream);
  for_each_item("task_aligned_assign", NormaliseOp{t, anchors}, n, stream);
}

void anchors_inside(const AnchorsInside& p, void*, Stream stream) {
  check_labels("anchors_inside", p);
  if (p.batch * p.anchors == 0) return;
  for_each_item(
      "anchors_inside",
      InsideOp{p.points, p.gt_boxes, p.gt_begin, p.eps, Divider<uint32_t>(p.anchors), p.inside},
      p.batch * p.anchors, stream);
}

}  // namespace sextant::kernels::cuda
