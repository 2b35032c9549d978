// SPDX-License-Identifier: Apache-2.0
// A small quantized detector without class names, for images of 64 x 64.
#pragma once

#include "deploy/networks.h"

namespace sextant::test {

inline constexpr int kSize = 64;

inline deploy::Graph small_detector() {
  const Shape shape{1, kSize, kSize, 3};
  const MixedNet net(Activation::kReLU, 3);
  deploy::Graph graph = with_ranges(deploy::fuse(traced(net, shape)), random_images(shape, 5));
  graph.image_size = kSize;
  return graph;
}

}  // namespace sextant::test
