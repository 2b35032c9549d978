// The convolutions of a graph as kernels see them.
#pragma once

#include <string>
#include <vector>

#include "deploy/graph.h"
#include "kernels/conv.h"

namespace sextant::deploy {

struct ConvLayer {
  std::string name;  // of the first node that is such a one
  kernels::ConvShape shape;
  Activation activation = Activation::kIdentity;
  bool residual = false;
  bool residual_before_activation = false;
  int count = 1;  // nodes of the graph that are such convolutions
};

// Each kind once, in the graph's order, for `batch` images of height x width. A transposed
// convolution counts as the 1x1 convolution to 4 O channels that it is (deploy/conv_step.h).
std::vector<ConvLayer> conv_layers(const Graph& graph, int64_t batch, int64_t height,
                                   int64_t width);

}  // namespace sextant::deploy
