// SPDX-License-Identifier: Apache-2.0
// SimOTA: one thread per anchor decides whether it is a candidate and computes its class costs; one
// block per box finds how many anchors it takes and claims the cheapest; one thread per anchor
// resolves conflicts.
#include "kernels/cuda/detection/assign_topk.cuh"
#include "kernels/cuda/device/each.cuh"
#include "kernels/math/simota.h"

namespace sextant::kernels::cuda {
namespace {

using namespace assigning;

struct SimOta {
  const double* pred_boxes;
  const double* points;
  const double* strides;
  const double* gt_boxes;
  const int32_t* gt_classes;
  const int64_t* gt_begin;
  int64_t batch, anchors, classes;
  double eps, radius, iou_weight;
  int dynamic_k;
  bool has_objectness;
  int32_t* assigned;
  double* target;
  double* background;  // [N, A]: what all classes cost without an object; below 0: no candidate
  ScoreBlock scores[kMaxScoreBlocks];
  ScoreBlock objectness[kMaxScoreBlocks];

  explicit SimOta(const SimOtaAssign& p)
      : pred_boxes(p.pred_boxes),
        points(p.points),
        strides(p.strides),
        gt_boxes(p.gt_boxes),
        gt_classes(p.gt_classes),
        gt_begin(p.gt_begin),
        batch(p.batch),
        anchors(p.anchors),
        classes(p.classes),
        eps(p.eps),
        radius(p.radius),
        iou_weight(p.iou_weight),
        dynamic_k(static_cast<int>(p.dynamic_k)),
        has_objectness(p.has_objectness),
        assigned(p.assigned),
        target(p.target),
        background(nullptr) {
    std::copy(p.scores.begin(), p.scores.end(), scores);
    std::copy(p.objectness.begin(), p.objectness.end(), objectness);
  }

  __device__ __forceinline__ bool is_inside(int64_t a, int64_t box) const {
    return inside(points + 2 * a, gt_boxes + 4 * box, 0.0);
  }
  __device__ __forceinline__ bool is_near(int64_t a, int64_t box) const {
    return near_centre(points + 2 * a, radius * strides[a], gt_boxes + 4 * box);
  }
  __device__ __forceinline__ bool is_candidate(int64_t n, int64_t a) const {
    for (int64_t box = gt_begin[n]; box < gt_begin[n + 1]; ++box)
      if (is_inside(a, box) || is_near(a, box)) return true;
    return false;
  }
  __device__ __forceinline__ double object_of(int64_t n, int64_t a) const {
    return has_objectness ? logistic(static_cast<double>(scores_at(objectness, n, a)[0])) : 1.0;
  }
  __device__ __forceinline__ double overlap_of(int64_t n, int64_t a, int64_t box) const {
    const double u = iou(gt_boxes + 4 * box, pred_boxes + 4 * (n * anchors + a), eps);
    return u > 0.0 ? u : 0.0;  // also for NaN
  }
  // For a candidate.
  __device__ __forceinline__ double cost_of(int64_t n, int64_t a, int64_t box) const {
    const ClassTerms terms = class_terms(scores_at(scores, n, a)[gt_classes[box]], object_of(n, a));
    return simota_cost(background[n * anchors + a], terms, overlap_of(n, a, box),
                       is_inside(a, box) && is_near(a, box), iou_weight);
  }
};

struct CandidateOp {
  SimOta p;
  Divider<uint32_t> anchors;
  __device__ __forceinline__ void operator()(uint32_t i) const {
    const int64_t n = anchors.quotient(i);
    const int64_t a = anchors.remainder(i);
    p.assigned[i] = -1;
    p.target[i] = 0.0;
    if (!p.is_candidate(n, a)) {
      p.background[i] = -1.0;
      return;
    }
    const float* logits = scores_at(p.scores, n, a);
    const double object = p.object_of(n, a);
    double sum = 0.0;
    for (int64_t c = 0; c < p.classes; ++c) sum -= class_terms(logits[c], object).log_not_p;
    p.background[i] = sum;
  }
};

template <int kBlock>
__global__ void __launch_bounds__(kBlock) select_kernel(SimOta p) {
  SEXTANT_SHARED(Ranked[kBlock / 32], warps);
  SEXTANT_SHARED(int32_t[kMaxTopk], taken);
  SEXTANT_SHARED(int[1], wanted);
  const int64_t box = blockIdx.x;
  if (box >= p.gt_begin[p.batch]) return;
  const int64_t n = image_of(p.gt_begin, p.batch, box);
  const double* background = p.background + n * p.anchors;
  // The best of the candidates by `value`, at most `limit`, to taken[].
  const auto select = [&](int limit, const auto& value) {
    TopList list;
    for (int64_t a = threadIdx.x; a < p.anchors; a += kBlock)
      if (!(background[a] < 0.0)) list.offer(value(a), static_cast<int32_t>(a), limit);
    return merge_lists(list, limit, warps, taken);
  };
  const int overlapping = select(p.dynamic_k, [&](int64_t a) { return p.overlap_of(n, a, box); });
  if (threadIdx.x == 0) {
    double sum = 0.0;
    for (int i = 0; i < overlapping; ++i) sum += p.overlap_of(n, taken[i], box);
    wanted[0] = sum < 1.0 ? 1 : static_cast<int>(sum);
  }
  __syncthreads();
  const int found = select(wanted[0], [&](int64_t a) { return -p.cost_of(n, a, box); });
  if (static_cast<int>(threadIdx.x) < found)
    claim(p.assigned + n * p.anchors + taken[threadIdx.x],
          static_cast<int32_t>(box - p.gt_begin[n]));
}

struct SettleOp {
  SimOta p;
  Divider<uint32_t> anchors;
  __device__ __forceinline__ void operator()(uint32_t i) const {
    int32_t g = p.assigned[i];
    if (g == -1) return;
    const int64_t n = anchors.quotient(i);
    const int64_t a = anchors.remainder(i);
    const int64_t first = p.gt_begin[n];
    if (g == kConflict) {
      double best = p.cost_of(n, a, first);
      g = 0;
      for (int64_t box = first + 1; box < p.gt_begin[n + 1]; ++box) {
        const double cost = p.cost_of(n, a, box);
        if (cost < best) {
          best = cost;
          g = static_cast<int32_t>(box - first);
        }
      }
      p.assigned[i] = g;
    }
    p.target[i] = p.overlap_of(n, a, first + g);
  }
};

struct IsCandidateOp {
  SimOta p;
  Divider<uint32_t> anchors;
  uint8_t* result;
  __device__ __forceinline__ void operator()(uint32_t i) const {
    result[i] = p.is_candidate(anchors.quotient(i), anchors.remainder(i)) ? 1 : 0;
  }
};

}  // namespace

int64_t workspace_bytes(const SimOtaAssign& p) {
  return p.batch * p.anchors * static_cast<int64_t>(sizeof(double));
}

void simota_assign(const SimOtaAssign& p, void* workspace, Stream stream) {
  check_labels("simota_assign", p);
  check(p.dynamic_k >= 0 && p.dynamic_k <= kMaxTopk, "simota_assign: dynamic_k {}, must be 0 to {}",
        p.dynamic_k, kMaxTopk);
  const int64_t n = p.batch * p.anchors;
  if (n == 0) return;
  SimOta s(p);
  s.background = static_cast<double*>(workspace);
  const Divider<uint32_t> anchors(p.anchors);
  for_each_item("simota_assign", CandidateOp{s, anchors}, n, stream);
  if (p.boxes == 0) return;
  launch(SEXTANT_KERNEL(select_kernel<kTopThreads>), static_cast<unsigned>(p.boxes), kTopThreads, 0,
         stream, s);
  for_each_item("simota_assign", SettleOp{s, anchors}, n, stream);
}

void simota_candidates(const SimOtaCandidates& candidates, void*, Stream stream) {
  const SimOtaAssign& p = candidates.problem;
  check_labels("simota_candidates", p);
  if (p.batch * p.anchors == 0) return;
  for_each_item("simota_candidates",
                IsCandidateOp{SimOta(p), Divider<uint32_t>(p.anchors), candidates.candidate},
                p.batch * p.anchors, stream);
}

}  // namespace sextant::kernels::cuda
