// SPDX-License-Identifier: Apache-2.0
// Decoding of boxes and their losses, four lanes per anchor: each handles one of the four numbers
// of the box and its distribution. Blocks without a positive anchor return at once; the others are
// summed in double, in an order that depends on the shape alone.
#include "kernels/cuda/device/pack.cuh"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/math/box.h"

namespace sextant::kernels::cuda {
namespace {

using namespace boxes;

constexpr int kThreads = 256;
constexpr int kLanes = 4;
constexpr unsigned kAll = 0xffffffffu;

// The numbers of the four lanes.
struct Numbers {
  double v[4];
  __device__ __forceinline__ explicit Numbers(double mine) {
    for (int i = 0; i < kLanes; ++i) v[i] = __shfl_sync(kAll, mine, i, kLanes);
  }
};

template <int kBlock>
__global__ void __launch_bounds__(kBlock)
    decode_boxes_kernel(DecodeBoxes p, Divider<uint32_t> anchors, uint32_t total) {
  const uint32_t at = (blockIdx.x * kBlock + threadIdx.x) / kLanes;
  const int side = static_cast<int>(threadIdx.x) % kLanes;
  const bool wanted = at < total && p.wanted[at] != 0;
  if (!__any_sync(kAll, wanted)) return;
  Place place{};
  double mine = 0.0;
  if (wanted) {
    place = place_of(p.maps, anchors.quotient(at), anchors.remainder(at));
    mine = number_of(p.maps, place, side).mean;
  }
  const Numbers numbers(mine);
  if (!wanted) return;
  double box[4];
  box_of(p.maps.form, place, numbers.v, box);
  p.boxes[int64_t{4} * at + side] = box[side] * p.maps.level[place.level].stride;
}

// partial [kBoxLossSums][blocks]
template <int kBlock>
__global__ void __launch_bounds__(kBlock)
    box_loss_kernel(BoxLoss p, Divider<uint32_t> anchors, uint32_t total, double* partial) {
  SEXTANT_SHARED(double[kBlock], lanes);
  const uint32_t at = (blockIdx.x * kBlock + threadIdx.x) / kLanes;
  const int side = static_cast<int>(threadIdx.x) % kLanes;
  const int32_t g = at < total ? p.assigned[at] : -1;
  double sums[kBoxLossSums] = {};
  if (!__syncthreads_or(g >= 0)) {
    if (threadIdx.x < kBoxLossSums) partial[threadIdx.x * gridDim.x + blockIdx.x] = 0.0;
    return;
  }
  Place place{};
  SideSums own{};
  const uint32_t image = anchors.quotient(at);
  if (g >= 0) {
    place = place_of(p.maps, image, anchors.remainder(at));
    own = number_of(p.maps, place, side);
  }
  const Numbers numbers(own.mean);
  if (g >= 0) {
    const double weight = p.target[at];
    const BoxTerm box = box_term(p, place, numbers.v, p.gt_begin[image] + g);
    const SideTerm term = side_term(p, place, side, own, box, weight);
    sums[0] = side == 0 ? weight * box.loss : 0.0;
    sums[1] = term.focal;
    sums[2] = term.distilled;
  }
  for (int s = 0; s < kBoxLossSums; ++s) {
    __syncthreads();
    const double sum = block_sum<kBlock>(sums[s], lanes);
    if (threadIdx.x == 0) partial[s * static_cast<int64_t>(gridDim.x) + blockIdx.x] = sum;
  }
}

int64_t total_of(const BoxMaps& m) { return m.batch * m.anchors(); }
int64_t blocks_of(const BoxMaps& m) { return (kLanes * total_of(m) + kThreads - 1) / kThreads; }

void check_maps(const char* name, const BoxMaps& m) {
  check(m.levels >= 1 && m.levels <= kMaxLevels && m.per_cell >= 1 &&
            m.per_cell <= kMaxBoxesPerCell && m.bins >= 1,
        "{}: {} levels of {} boxes a cell with {} bins", name, m.levels, m.per_cell, m.bins);
  check(total_of(m) <= (int64_t{1} << 29), "{}: {} anchors, at most 2^29", name, total_of(m));
}

}  // namespace

void decode_boxes(const DecodeBoxes& p, void*, Stream stream) {
  check_maps("decode_boxes", p.maps);
  const int64_t total = total_of(p.maps);
  if (total == 0) return;
  launch(SEXTANT_KERNEL(decode_boxes_kernel<kThreads>), static_cast<unsigned>(blocks_of(p.maps)),
         kThreads, 0, stream, p, Divider<uint32_t>(p.maps.anchors()), static_cast<uint32_t>(total));
}

int64_t workspace_bytes(const BoxLoss& p) {
  return kBoxLossSums * blocks_of(p.maps) * static_cast<int64_t>(sizeof(double));
}

void box_loss(const BoxLoss& p, void* workspace, Stream stream) {
  check_maps("box_loss", p.maps);
  const int64_t total = total_of(p.maps), blocks = blocks_of(p.maps);
  auto* partial = static_cast<double*>(workspace);
  if (total > 0)
    launch(SEXTANT_KERNEL(box_loss_kernel<kThreads>), static_cast<unsigned>(blocks), kThreads, 0,
           stream, p, Divider<uint32_t>(p.maps.anchors()), static_cast<uint32_t>(total), partial);
  sum_partials(partial, blocks, 1.0, p.sums, stream, kBoxLossSums);
}

}  // namespace sextant::kernels::cuda
