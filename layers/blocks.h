// SPDX-License-Identifier: Apache-2.0
// The convolution blocks of YOLOv6, named and structured as in the official
// yolov6/layers/common.py, so that parameter names agree. The stages built from them are in
// layers/stages.h.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/rng.h"
#include "layers/functional.h"
#include "layers/module.h"

namespace sextant {

// The official values, set on every BatchNorm after construction (initialize_weights).
inline constexpr float kBatchNormEps = 1e-3f;
inline constexpr float kBatchNormMomentum = 0.03f;

// A module from one tensor to one tensor.
class Layer : public Module {
 public:
  virtual Variable forward(const Variable& x) const = 0;
};

// Convolution with optional bias. Default initialization as PyTorch's Conv2d: kaiming uniform with
// a = sqrt(5), i.e. uniform in +-1/sqrt(fan_in), weight and bias alike.
class Conv2d : public Layer {
 public:
  Conv2d(int64_t in, int64_t out, int64_t kernel, ConvParams params, bool bias, Rng& rng);
  Variable forward(const Variable& x) const override { return conv2d(x, weight, bias, params); }
  Variable weight, bias;
  ConvParams params;
};

class BatchNorm2d : public Module {
 public:
  explicit BatchNorm2d(int64_t channels);
  // Counts the batch when training; pass the state to rep_bn_act.
  BatchNormState state_for_forward() const;
  BatchNormParams params() const { return {kBatchNormEps, kBatchNormMomentum, training()}; }
  BatchNormState state;
  Tensor num_batches_tracked;  // i64 scalar
};

// conv (no bias, "same" padding) + BN + activation. Official ConvModule; with a 3x3 kernel also
// RealVGGBlock, the target block of the RepOptimizer route.
class ConvModule : public Layer {
 public:
  ConvModule(int64_t in, int64_t out, int64_t kernel, int64_t stride, Activation act, Rng& rng,
             int64_t groups = 1);
  Variable forward(const Variable& x) const override;

  std::shared_ptr<Conv2d> conv;
  std::shared_ptr<BatchNorm2d> bn;

 private:
  Activation act_;
};

// A ConvModule with parameters under "block.": official ConvBNReLU, ConvBNSiLU, ConvBNHS, ConvBN.
class ConvBNAct : public Layer {
 public:
  ConvBNAct(int64_t in, int64_t out, int64_t kernel, int64_t stride, Activation act, Rng& rng,
            int64_t groups = 1);
  Variable forward(const Variable& x) const override { return block_->forward(x); }

 private:
  std::shared_ptr<ConvModule> block_;
};

// RepVGGBlock in training form: 3x3 + BN, 1x1 + BN, and BN alone where input and output agree
// (Ding et al., RepVGG, 2021, fig. 2).
class RepVGGBlock : public Layer {
 public:
  RepVGGBlock(int64_t in, int64_t out, int64_t stride, Rng& rng, Activation act = Activation::kReLU,
              int64_t groups = 1);
  Variable forward(const Variable& x) const override;

 private:
  std::shared_ptr<BatchNorm2d> identity_;
  std::shared_ptr<ConvModule> dense_, pointwise_;
  int64_t stride_;
  Activation act_;
};

// QARepVGGBlock: act(BN(BN(conv3x3(x)) + conv1x1(x) [+ x])); version 2 adds the average of the 3x3
// neighborhood where there is an identity (Chu et al., QARepVGG, 2022).
class QARepVGGBlock : public Layer {
 public:
  QARepVGGBlock(int64_t in, int64_t out, int64_t stride, int version, Rng& rng,
                Activation act = Activation::kReLU);
  Variable forward(const Variable& x) const override;

 private:
  std::shared_ptr<ConvModule> dense_;
  std::shared_ptr<Conv2d> pointwise_;
  std::shared_ptr<BatchNorm2d> bn_;
  bool identity_, average_;
  Activation act_;
};

// The hyper-search block of the RepOptimizer route (Ding et al., RepOpt, 2022):
// act(BN(s3 conv3x3(x) + s1 conv1x1(x) [+ s0 x])) with a scale per channel for each branch. With
// `csla`, s3 and s1 are not trained.
class LinearAddBlock : public Layer {
 public:
  LinearAddBlock(int64_t in, int64_t out, int64_t stride, Rng& rng,
                 Activation act = Activation::kReLU, bool csla = false);
  Variable forward(const Variable& x) const override;

 private:
  class Scale;
  std::shared_ptr<Conv2d> conv_, pointwise_;
  std::shared_ptr<Scale> scale_conv_, scale_pointwise_, scale_identity_;
  std::shared_ptr<BatchNorm2d> bn_;
  Activation act_;
};

// The kind of 3x3 block that a network is built from.
enum class BlockKind { kRepVGG, kQARepVGG, kQARepVGGV2, kLinearAdd, kRealVGG, kConvBN };
struct BlockStyle {
  BlockKind kind = BlockKind::kRepVGG;
  Activation act = Activation::kReLU;
};
std::shared_ptr<Layer> make_block(BlockStyle style, int64_t in, int64_t out, int64_t stride,
                                  Rng& rng);

// 2x2 stride-2 transposed convolution with bias ("upsample_transpose").
class Transpose : public Layer {
 public:
  Transpose(int64_t in, int64_t out, Rng& rng);
  Variable forward(const Variable& x) const override { return conv_transpose2d(x, weight_, bias_); }

 private:
  Variable weight_, bias_;
};

// Layers in sequence, under the names "0", "1", ...
class Sequence : public Layer {
 public:
  template <class L>
  std::shared_ptr<L> push(std::shared_ptr<L> layer) {
    register_module(std::to_string(layers_.size()), layer);
    layers_.push_back(layer);
    return layer;
  }
  Variable forward(const Variable& x) const override;
  const std::vector<std::shared_ptr<Layer>>& layers() const { return layers_; }

 private:
  std::vector<std::shared_ptr<Layer>> layers_;
};

// Adds a name between a module and its children.
struct Nest : Module {
  template <class M>
  std::shared_ptr<M> push(const std::string& name, std::shared_ptr<M> m) {
    return register_module(name, std::move(m));
  }
};

}  // namespace sextant
