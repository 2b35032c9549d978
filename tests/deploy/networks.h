// SPDX-License-Identifier: Apache-2.0
// Networks for the deploy tests, made of the project's own layers.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "deploy/graph/passes.h"
#include "deploy/graph/ranges.h"
#include "deploy/graph/trace.h"
#include "layers/stages.h"
#include "models/head.h"
#include "models/yolov6.h"
#include "support/support.h"

namespace sextant::test {

// Parameters and running statistics drawn at random, of sizes that keep activations near 1.
void randomize(const Module& module, uint64_t seed);

deploy::NamedVariables named(const Module& module);

// Every kind of node that a model can have: RepVGG blocks with and without identity, stride 2, conv
// + BN with several activations, residual before and after the activation, scaled or not, an add
// and an activation that cannot be folded, chained pools into a concat, deconv, upsample, slice,
// depthwise, two-level head. Strides 2 and 4.
class MixedNet : public Module {
 public:
  explicit MixedNet(Activation act, uint64_t seed, bool objectness = false);
  Variable predict(const Variable& x) const;

 private:
  Activation act_;
  std::shared_ptr<RepVGGBlock> stem_, block_;
  std::shared_ptr<ConvBNAct> c1_, c2_, c3_, down_, mix_, part_;
  std::shared_ptr<ConvModule> depthwise_;
  std::shared_ptr<Conv2d> linear_;
  std::shared_ptr<SimSPPF> sppf_;
  std::shared_ptr<Transpose> up_;
  std::shared_ptr<EffiDeHead> head_;
};

// Bytes with structure (smooth and noisy parts), from a seed.
Tensor random_images(const Shape& shape, uint64_t seed);
// x / 255.
Tensor as_float_images(const Tensor& images);

// Ranges from one batch: the largest |x| of every group times `shrink`.
deploy::Graph with_ranges(const deploy::Graph& fused, const Tensor& images, float shrink = 1.0f);

// Random gains behind the activations of all convolutions that do not commute with a factor.
deploy::Graph with_gains(const deploy::Graph& fused, uint64_t seed);

template <class Net>
deploy::Graph traced(const Net& net, const Shape& shape) {
  return deploy::trace_model([&](const Variable& x) { return net.predict(x); }, named(net), shape);
}

}  // namespace sextant::test
