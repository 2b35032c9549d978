// SPDX-License-Identifier: Apache-2.0
// Non-maximum suppression. One warp per anchor collects the candidates as sort keys, in any order.
// Then one block per image sorts them, which fixes the order, and keeps boxes greedily: it finds
// all candidates of a run that no kept box suppresses in parallel, then repeatedly keeps the best
// of these and lets it suppress the others.
#include <cmath>
#include <limits>

#include "kernels/cuda/device/pack.cuh"
#include "kernels/detection/nms.h"

namespace sextant::kernels::cuda {
namespace {

constexpr int kCollectThreads = 256;
constexpr int kKeepThreads = 512;

using Key = unsigned long long;

struct Nms {
  const float* predictions;
  int64_t batch, anchors, classes;
  int64_t places;  // candidates that an image may have
  float conf, limit, class_offset;
  bool multi_label, agnostic, all_classes;
  int64_t max_candidates;
  int max_det;
  uint32_t wanted[kMaxNamedClass / 32];  // a bit a class
  Key* keys;                             // [batch][places]
  int32_t* found;                        // [batch]
  Detection* out;
  int32_t* count;

  __device__ __forceinline__ bool wants(int64_t c) const {
    return all_classes || (c < kMaxNamedClass && (wanted[c / 32] >> (c % 32) & 1u) != 0);
  }
};

// Increases with falling score, and with the index for equal scores.
__device__ __forceinline__ Key sort_key(float score, int64_t index) {
  const auto bits = static_cast<uint32_t>(__float_as_int(score));
  const uint32_t rising = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  return static_cast<Key>(~rising) << 32 | static_cast<Key>(index);
}

template <int kBlock>
__global__ void __launch_bounds__(kBlock) collect_kernel(Nms p) {
  const int lane = static_cast<int>(threadIdx.x) % warpSize;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * (kBlock / warpSize) +
                      static_cast<int>(threadIdx.x) / warpSize;
  if (row >= p.batch * p.anchors) return;  // whole warps
  const int64_t image = row / p.anchors;
  const int64_t anchor = row % p.anchors;
  const float* scores = p.predictions + row * (5 + p.classes) + 5;
  const float objectness = scores[-1];
  if (!(objectness > p.conf)) return;
  constexpr int64_t kNone = int64_t{1} << 40;
  float best = 0.0f;
  int64_t best_class = kNone;
  for (int64_t c = lane; c < p.classes; c += warpSize)
    if (best_class == kNone || scores[c] > best) {
      best = scores[c];
      best_class = c;
    }
  for (int d = warpSize / 2; d > 0; d /= 2) {
    const float other = __shfl_xor_sync(0xffffffffu, best, d);
    const int64_t other_class = __shfl_xor_sync(0xffffffffu, best_class, d);
    const bool mine = best_class != kNone && (other_class == kNone || best > other ||
                                              (best == other && best_class < other_class));
    best = mine ? best : other;
    best_class = mine ? best_class : other_class;
  }
  if (!(best > p.conf)) return;
  const auto add = [&](int64_t c) {
    const float score = scores[c] * objectness;
    if (!(score > p.conf) || !p.wants(c)) return;
    const int32_t place = atomicAdd(p.found + image, 1);
    p.keys[image * p.places + place] = sort_key(score, anchor * p.classes + c);
  };
  if (p.multi_label)
    for (int64_t c = lane; c < p.classes; c += warpSize) add(c);
  else if (lane == 0)
    add(best_class);
}

// Sorts with one block: a bitonic network whose comparisons all put the smaller key first, so that
// no padding beyond n is needed.
template <int kBlock>
__device__ __forceinline__ void sort_keys(Key* keys, int64_t n) {
  const auto order = [&](int64_t i, int64_t j) {
    if (j >= n) return;
    const Key a = keys[i];
    const Key b = keys[j];
    if (b < a) {
      keys[i] = b;
      keys[j] = a;
    }
  };
  for (int64_t size = 2; size / 2 < n; size *= 2) {
    const int64_t half = size / 2;
    __syncthreads();
    for (int64_t t = threadIdx.x; t < (n + 1) / 2 + half; t += kBlock) {
      const int64_t group = t / half * size;
      order(group + t % half, group + size - 1 - t % half);
    }
    for (int64_t step = half / 2; step > 0; step /= 2) {
      __syncthreads();
      for (int64_t t = threadIdx.x; t < (n + 1) / 2 + step; t += kBlock) {
        const int64_t i = t / step * 2 * step + t % step;
        order(i, i + step);
      }
    }
  }
  __syncthreads();
}

struct Box {
  float x1, y1, x2, y2, area;
  __device__ __forceinline__ bool suppresses(const Box& b, float limit) const {
    const auto extent = [](float low, float high) { return high > low ? high - low : 0.0f; };
    const float w = extent(x1 > b.x1 ? x1 : b.x1, x2 < b.x2 ? x2 : b.x2);
    const float h = extent(y1 > b.y1 ? y1 : b.y1, y2 < b.y2 ? y2 : b.y2);
    const float overlap = w * h;
    return overlap / (area + b.area - overlap) > limit;
  }
};

template <int kBlock>
__global__ void __launch_bounds__(kBlock) keep_kernel(Nms p) {
  SEXTANT_DYNAMIC_SHARED(Box, kept);  // [max_det]
  SEXTANT_SHARED(int[kBlock / 32], first_of_warp);
  const int64_t image = blockIdx.x;
  const int tid = static_cast<int>(threadIdx.x);
  Key* keys = p.keys + image * p.places;
  int64_t n = p.found[image];
  sort_keys<kBlock>(keys, n);
  if (n > p.max_candidates) n = p.max_candidates;
  int count = 0;
  for (int64_t base = 0; base < n && count < p.max_det; base += kBlock) {
    bool alive = base + tid < n;
    Detection d;
    Box box{};
    if (alive) {
      const auto index = static_cast<int64_t>(keys[base + tid] & 0xffffffffu);
      const int64_t c = index % p.classes;
      const float* row = p.predictions + (image * p.anchors + index / p.classes) * (5 + p.classes);
      d.x1 = row[0] - row[2] * 0.5f;
      d.y1 = row[1] - row[3] * 0.5f;
      d.x2 = row[0] + row[2] * 0.5f;
      d.y2 = row[1] + row[3] * 0.5f;
      d.score = row[5 + c] * row[4];
      d.class_id = static_cast<int32_t>(c);
      const float move = p.agnostic ? 0.0f : static_cast<float>(c) * p.class_offset;
      box = {d.x1 + move, d.y1 + move, d.x2 + move, d.y2 + move, 0.0f};
      box.area = (box.x2 - box.x1) * (box.y2 - box.y1);
    }
    for (int k = 0; k < count && alive; ++k) alive = !kept[k].suppresses(box, p.limit);
    while (count < p.max_det) {
      const unsigned votes = __ballot_sync(0xffffffffu, alive ? 1 : 0);
      if (tid % warpSize == 0)
        first_of_warp[tid / warpSize] =
            votes != 0 ? tid + __ffs(static_cast<int>(votes)) - 1 : kBlock;
      __syncthreads();
      int first = kBlock;
      for (const int f : first_of_warp) first = f < first ? f : first;
      if (tid == first) {
        kept[count] = box;
        p.out[image * p.max_det + count] = d;
        alive = false;
      }
      __syncthreads();
      if (first == kBlock) break;
      if (alive) alive = !kept[count].suppresses(box, p.limit);
      ++count;
    }
  }
  if (tid == 0) p.count[image] = count;
}

template <int kBlock>
__global__ void __launch_bounds__(kBlock) clear_kernel(int32_t* found, int64_t batch) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kBlock + threadIdx.x;
  if (i < batch) found[i] = 0;
}

int64_t places_of(const NonMaxSuppression& p) {
  return p.anchors * (p.options.multi_label ? p.classes : 1);
}

// The largest float not above x: f > x in double is the same as f > float_below(x) in float.
float float_below(double x) {
  const auto f = static_cast<float>(x);
  return static_cast<double>(f) > x ? std::nextafter(f, -std::numeric_limits<float>::infinity())
                                    : f;
}

}  // namespace

// Room for the largest possible number of candidates.
int64_t workspace_bytes(const NonMaxSuppression& p) {
  return p.batch *
         (places_of(p) * static_cast<int64_t>(sizeof(Key)) + static_cast<int64_t>(sizeof(int32_t)));
}

void non_max_suppression(const NonMaxSuppression& input, void* workspace, Stream stream) {
  const NmsOptions& options = input.options;
  check(options.max_det >= 0 && options.max_det <= kMaxKept,
        "non_max_suppression: max_det {}, must be 0 to {}", options.max_det, kMaxKept);
  check(input.classes >= 1 && input.anchors * input.classes < (int64_t{1} << 31),
        "non_max_suppression: {} anchors of {} classes", input.anchors, input.classes);
  if (input.batch <= 0) return;
  Nms p{};
  p.predictions = input.predictions;
  p.batch = input.batch;
  p.anchors = input.anchors;
  p.classes = input.classes;
  p.places = places_of(input);
  p.conf = options.conf;
  p.limit = float_below(options.iou);
  p.class_offset = options.class_offset;
  p.multi_label = options.multi_label;
  p.agnostic = options.agnostic;
  p.all_classes = options.classes.empty();
  for (const int32_t c : options.classes) {
    check(c < kMaxNamedClass, "non_max_suppression: class {}, must be below {}", c, kMaxNamedClass);
    if (c >= 0) p.wanted[c / 32] |= 1u << (c % 32);
  }
  p.max_candidates = options.max_candidates;
  p.max_det = static_cast<int>(options.max_det);
  p.keys = static_cast<Key*>(workspace);
  p.found = reinterpret_cast<int32_t*>(p.keys + p.batch * p.places);
  p.out = input.out;
  p.count = input.count;
  const auto blocks = [](int64_t items, int64_t a_block) {
    return static_cast<unsigned>((items + a_block - 1) / a_block);
  };
  launch(SEXTANT_KERNEL(clear_kernel<kCollectThreads>), blocks(p.batch, kCollectThreads),
         kCollectThreads, 0, stream, p.found, p.batch);
  if (p.anchors > 0)
    launch(SEXTANT_KERNEL(collect_kernel<kCollectThreads>),
           blocks(p.batch * p.anchors, kCollectThreads / kHostWarp), kCollectThreads, 0, stream, p);
  launch(SEXTANT_KERNEL(keep_kernel<kKeepThreads>), static_cast<unsigned>(p.batch), kKeepThreads,
         static_cast<size_t>(p.max_det) * sizeof(Box), stream, p);
}

}  // namespace sextant::kernels::cuda
