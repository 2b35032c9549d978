// SPDX-License-Identifier: Apache-2.0
// The convolutions of a graph as kernels see them.
#pragma once

#include <string>
#include <vector>

#include "core/tensor.h"
#include "deploy/graph/graph.h"
#include "kernels/conv.h"

namespace sextant::deploy {

struct ConvLayer {
  std::string name;  // of the first node with this convolution
  kernels::ConvShape shape;
  // residual_scale stays 1: it does not distinguish convolutions.
  kernels::Epilogue epilogue{};
  bool residual = false;
  int count = 1;  // number of nodes with this convolution
};

// The parameters of one convolution, as real numbers.
kernels::Epilogue epilogue_of(const Node& node);

// The distinct convolutions, in the graph's order, for `batch` images of height x width. A
// transposed convolution counts as the 1x1 convolution to 4 O channels that it is
// (deconv_as_pointwise()).
std::vector<ConvLayer> conv_layers(const Graph& graph, int64_t batch, int64_t height,
                                   int64_t width);

// ---- the convolution that runs for a node with a weight

// The attributes of a conv. A deconv runs as a convolution of stride 1 without padding or groups.
ConvAttributes conv_attributes(const Node& node);

// A conv unchanged; a deconv as the 1x1 convolution whose results are then scattered.
struct ConvForm {
  explicit ConvForm(const Node& node);
  ConvAttributes attributes;
  Tensor weight;  // f32 [O,kh,kw,I/groups]
  Tensor bias;    // f32 [O] or empty
  Tensor gain;    // likewise
  std::vector<float> weight_scale;
  bool scattered = false;
};

// A 2x2 stride-2 transposed convolution is a 1x1 convolution to 4 O channels, ordered (row, column,
// o) here, whose results are then scattered: weight [O,2,2,I] -> [4 O,1,1,I].
Tensor deconv_as_pointwise(const Tensor& weight);
// Its bias or gain: [O] four times, or empty.
Tensor deconv_channels(const Tensor& values);

}  // namespace sextant::deploy
