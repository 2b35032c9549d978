// SPDX-License-Identifier: Apache-2.0
// Shared by the assigners on the device: finding the largest few of many values with one block, and
// claiming anchors for boxes.
#pragma once

#include "kernels/cuda/device/launch.h"
#include "kernels/math/assign.h"

namespace sextant::kernels::cuda::assigning {

using namespace sextant::kernels::assigning;

inline constexpr int kTopThreads = 256;
inline constexpr int32_t kConflict = -2;  // claimed by several boxes
inline constexpr int32_t kNobody = 0x7fffffff;

// A value and its anchor; of equal values the lower anchor is better.
struct Ranked {
  double value;
  int32_t anchor;
  __device__ __forceinline__ bool better_than(const Ranked& o) const {
    return value > o.value || (value == o.value && anchor < o.anchor);
  }
  __device__ __forceinline__ static Ranked none() {
    return {-static_cast<double>(__int_as_float(0x7f800000)), kNobody};
  }
};

// The best few of the anchors that one thread sees, in order.
struct TopList {
  Ranked entry[kMaxTopk];
  int count = 0;

  // Anchors come by rising index.
  __device__ __forceinline__ void offer(double value, int32_t anchor, int limit) {
    int at = count;
    while (at > 0 && value > entry[at - 1].value) --at;
    if (at >= limit) return;
    if (count < limit) ++count;
    for (int k = count - 1; k > at; --k) entry[k] = entry[k - 1];
    entry[at] = {value, anchor};
  }
};

// The best `limit` of all the block's lists, in order, to taken[]; returns how many there were.
// Called by all threads; `warps` is shared memory.
__device__ __forceinline__ int merge_lists(const TopList& list, int limit,
                                           Ranked (&warps)[kTopThreads / 32], int32_t* taken) {
  int mine = 0;
  int found = 0;
  for (; found < limit; ++found) {
    const Ranked head = mine < list.count ? list.entry[mine] : Ranked::none();
    Ranked best = head;
    for (int d = warpSize / 2; d > 0; d /= 2) {
      const Ranked other{__shfl_xor_sync(0xffffffffu, best.value, d),
                         __shfl_xor_sync(0xffffffffu, best.anchor, d)};
      if (other.better_than(best)) best = other;
    }
    __syncthreads();  // the warps' entries of the last turn have been read
    if (threadIdx.x % warpSize == 0) warps[threadIdx.x / warpSize] = best;
    __syncthreads();
    for (const Ranked& other : warps)
      if (other.better_than(best)) best = other;
    if (best.anchor == kNobody) break;
    if (best.anchor == head.anchor) {
      taken[found] = best.anchor;
      ++mine;
    }
  }
  __syncthreads();
  return found;
}

// Anchor `assigned` for box g, or in conflict where another box has it. The result does not depend
// on the order of the claims.
__device__ __forceinline__ void claim(int32_t* assigned, int32_t g) {
  if (atomicCAS(assigned, -1, g) != -1) atomicExch(assigned, kConflict);
}

// The image of a box: the last n with begin[n] <= box.
__device__ __forceinline__ int64_t image_of(const int64_t* begin, int64_t batch, int64_t box) {
  int64_t low = 0;
  int64_t high = batch;
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    if (begin[middle] <= box)
      low = middle;
    else
      high = middle;
  }
  return low;
}

inline void check_labels(const char* name, const AnchorsAndBoxes& p) {
  check(p.batch >= 0 && p.anchors >= 0 && p.anchors < (int64_t{1} << 31) && p.boxes >= 0 &&
            p.boxes < (int64_t{1} << 31),
        "{}: {} images, {} anchors, {} boxes", name, p.batch, p.anchors, p.boxes);
}

}  // namespace sextant::kernels::cuda::assigning
