// SPDX-License-Identifier: Apache-2.0
#include "kernels/detection/anchor_boxes.h"

#include "core/error.h"
#include "core/parallel.h"
#include "kernels/cpu/namespace.h"

namespace sextant::kernels::SEXTANT_CPU {
namespace {

template <bool kBackward>
void run(const AnchorBoxes& p) {
  check(p.anchors >= 1 && p.anchors <= kMaxAnchors, "anchor_boxes: {} anchors, must be 1 to {}",
        p.anchors, kMaxAnchors);
  const int64_t channels = 4 * p.anchors;
  parallel_for(p.rows, 256, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      for (int64_t c = 0; c < channels; ++c)
        p.out[r * channels + c] =
            anchor_box<kBackward>(p, r * channels + c, static_cast<uint32_t>(c));
  });
}

}  // namespace

void anchor_boxes_forward(const AnchorBoxes& p) { run<false>(p); }
void anchor_boxes_backward(const AnchorBoxes& p) { run<true>(p); }

}  // namespace sextant::kernels::SEXTANT_CPU
