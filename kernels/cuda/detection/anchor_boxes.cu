// SPDX-License-Identifier: Apache-2.0
// Boxes of the anchor-based branch, an element an item.
#include "kernels/cuda/device/each.cuh"
#include "kernels/detection/anchor_boxes.h"

namespace sextant::kernels::cuda {
namespace {

template <bool kBackward>
struct AnchorBoxesOp {
  AnchorBoxes p;
  Divider<uint32_t> channels;
  explicit AnchorBoxesOp(const AnchorBoxes& boxes) : p(boxes), channels(4 * boxes.anchors) {}
  __device__ __forceinline__ void operator()(uint32_t i) const {
    p.out[i] = anchor_box<kBackward>(p, i, static_cast<uint32_t>(channels.remainder(i)));
  }
};

template <bool kBackward>
void run(const AnchorBoxes& p, Stream stream) {
  check(p.anchors >= 1 && p.anchors <= kMaxAnchors, "anchor_boxes: {} anchors, must be 1 to {}",
        p.anchors, kMaxAnchors);
  for_each_item("anchor_boxes", AnchorBoxesOp<kBackward>(p), 4 * p.anchors * p.rows, stream);
}

}  // namespace

void anchor_boxes_forward(const AnchorBoxes& p, void*, Stream stream) { run<false>(p, stream); }
void anchor_boxes_backward(const AnchorBoxes& p, void*, Stream stream) { run<true>(p, stream); }

}  // namespace sextant::kernels::cuda
