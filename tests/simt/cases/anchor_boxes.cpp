// SPDX-License-Identifier: Apache-2.0
#include "kernels/detection/anchor_boxes.h"

#include <cmath>

#include "simt/cases/cases.h"

namespace sextant::test {
namespace {

using namespace sextant::kernels;

void check_boxes(TestGpu& gpu, int64_t rows, int64_t anchors, int64_t offset) {
  CAPTURE(rows, anchors, offset);
  const int64_t channels = 4 * anchors, n = rows * channels;
  const std::vector<float> x = random_values(n, 3, -6, 6), dy = random_values(n, 4, -2, 2);
  AnchorBoxes p{.rows = rows, .anchors = anchors};
  for (int64_t k = 0; k < 2 * anchors; ++k) p.side[k] = 0.5f + 1.75f * static_cast<float>(k);
  std::vector<double> y_ref, dx_ref;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t c = i % channels;
    const auto at = static_cast<size_t>(i);
    if (c % 4 < 2) {
      y_ref.push_back(x[at]);
      dx_ref.push_back(dy[at]);
      continue;
    }
    const double s = 1 / (1 + std::exp(-double{x[at]})), side = p.side[c / 4 * 2 + c % 4 - 2];
    y_ref.push_back(std::pow(2 * s, 2) * side);
    dx_ref.push_back(dy[at] * side * 8 * s * s * (1 - s));
  }
  std::vector<float> y_cpu = undefined(n), dx_cpu = undefined(n);
  p.x = x.data();
  p.out = y_cpu.data();
  host_kernels().anchor_boxes_forward(p);
  p.dy = dy.data();
  p.out = dx_cpu.data();
  host_kernels().anchor_boxes_backward(p);

  const DeviceArray xd(gpu, x, offset), dyd(gpu, dy), y(gpu, undefined(n)),
      dx(gpu, undefined(n), offset);
  p.x = xd.data();
  p.dy = nullptr;
  p.out = y.data();
  start(gpu, cuda::anchor_boxes_forward, p);
  p.dy = dyd.data();
  p.out = dx.data();
  start(gpu, cuda::anchor_boxes_backward, p);
  CHECK(worst_error(y.values(), y_ref) < 2e-6);
  CHECK(worst_error(y.values(), y_cpu) < 2e-6);
  // Sides of up to 56, times a 1 - s that keeps few of its bits where s is near 1.
  CHECK(worst_error(dx.values(), dx_ref) < 5e-5);
  CHECK(worst_error(dx.values(), dx_cpu) < 4e-6);
  xd.require_unchanged();
  dyd.require_unchanged();
}

}  // namespace

KERNEL_CASE("anchor box kernels") {
  for (const uint64_t seed : gpu.seeds()) {
    gpu.start(seed);
    for (const int64_t rows : {0, 1, 17, 300})
      for (const int64_t anchors : {int64_t{1}, int64_t{3}, kMaxAnchors})
        for (const int64_t offset : {0, 1}) check_boxes(gpu, rows, anchors, offset);
    CHECK(error_of([&] { start(gpu, cuda::anchor_boxes_forward, {.rows = 1, .anchors = 17}); }) ==
          "anchor_boxes: 17 anchors, must be 1 to 16");
  }
}

}  // namespace sextant::test
