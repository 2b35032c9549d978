// SPDX-License-Identifier: Apache-2.0
#include "layers/blocks.h"

#include <cmath>

#include "core/profile_range.h"

namespace sextant {
namespace {

Tensor uniform(Shape shape, double bound, Rng& rng) {
  Tensor t(shape);
  for (float& v : t.span<float>()) v = static_cast<float>(rng.uniform(-bound, bound));
  return t;
}

}  // namespace

Conv2d::Conv2d(int64_t in, int64_t out, int64_t kernel, ConvParams p, bool with_bias, Rng& rng)
    : params(p) {
  check(in > 0 && out > 0 && kernel > 0 && p.groups > 0 && in % p.groups == 0,
        "Conv2d: {} input channels, {} output channels, kernel {}, groups {}", in, out, kernel,
        p.groups);
  const double bound = 1.0 / std::sqrt(static_cast<double>(in / p.groups * kernel * kernel));
  weight = register_parameter(
      "weight", uniform(Shape{out, kernel, kernel, in / p.groups}, bound, rng), Layout::kConv);
  if (with_bias) bias = register_parameter("bias", uniform(Shape{out}, bound, rng));
}

BatchNorm2d::BatchNorm2d(int64_t channels) {
  state.gamma = register_parameter("weight", Tensor::full(Shape{channels}, 1.0f));
  state.beta = register_parameter("bias", Tensor::zeros(Shape{channels}));
  state.running_mean = register_buffer("running_mean", Tensor::zeros(Shape{channels}));
  state.running_var = register_buffer("running_var", Tensor::full(Shape{channels}, 1.0f));
  num_batches_tracked = register_buffer("num_batches_tracked", Tensor::zeros(Shape{}, DType::kI64));
}

BatchNormState BatchNorm2d::state_for_forward() const {
  if (training()) ++*num_batches_tracked.data<int64_t>();
  return state;
}

ConvModule::ConvModule(int64_t in, int64_t out, int64_t kernel, int64_t stride, Activation act,
                       Rng& rng, int64_t groups)
    : act_(act) {
  conv = register_module(
      "conv", std::make_shared<Conv2d>(in, out, kernel, ConvParams{stride, kernel / 2, groups},
                                       false, rng));
  bn = register_module("bn", std::make_shared<BatchNorm2d>(out));
}

Variable ConvModule::forward(const Variable& x) const {
  const ProfileRange range(own_name());
  return rep_bn_act({conv->forward(x)}, {bn->state_for_forward()}, act_, bn->params());
}

ConvBNAct::ConvBNAct(int64_t in, int64_t out, int64_t kernel, int64_t stride, Activation act,
                     Rng& rng, int64_t groups)
    : block_(register_module(
          "block", std::make_shared<ConvModule>(in, out, kernel, stride, act, rng, groups))) {}

RepVGGBlock::RepVGGBlock(int64_t in, int64_t out, int64_t stride, Rng& rng, Activation act,
                         int64_t groups)
    : stride_(stride), act_(act) {
  if (in == out && stride == 1)
    identity_ = register_module("rbr_identity", std::make_shared<BatchNorm2d>(in));
  const auto branch = [&](int64_t kernel) {
    return std::make_shared<ConvModule>(in, out, kernel, stride, Activation::kIdentity, rng,
                                        groups);
  };
  dense_ = register_module("rbr_dense", branch(3));
  pointwise_ = register_module("rbr_1x1", branch(1));
}

Variable RepVGGBlock::forward(const Variable& x) const {
  const ProfileRange range(own_name());
  std::vector<BatchNormState> norms{dense_->bn->state_for_forward(),
                                    pointwise_->bn->state_for_forward()};
  if (identity_) norms.push_back(identity_->state_for_forward());
  return rep_vgg(x, dense_->conv->weight, pointwise_->conv->weight, norms, stride_, act_,
                 dense_->bn->params());
}

QARepVGGBlock::QARepVGGBlock(int64_t in, int64_t out, int64_t stride, int version, Rng& rng,
                             Activation act)
    : identity_(in == out && stride == 1), average_(identity_ && version == 2), act_(act) {
  dense_ = register_module(
      "rbr_dense", std::make_shared<ConvModule>(in, out, 3, stride, Activation::kIdentity, rng));
  pointwise_ = register_module(
      "rbr_1x1", std::make_shared<Conv2d>(in, out, 1, ConvParams{stride, 0, 1}, false, rng));
  bn_ = register_module("bn", std::make_shared<BatchNorm2d>(out));
}

Variable QARepVGGBlock::forward(const Variable& x) const {
  const ProfileRange range(own_name());
  std::vector<Variable> branches{dense_->forward(x), pointwise_->forward(x)};
  if (identity_) branches.push_back(x);
  if (average_) branches.push_back(average_pool2d(x, 3));
  return rep_bn_act({branch_sum(branches, {})}, {bn_->state_for_forward()}, act_, bn_->params());
}

// Official ScaleLayer without bias.
class LinearAddBlock::Scale : public Module {
 public:
  explicit Scale(int64_t channels)
      : weight(register_parameter("weight", Tensor::full(Shape{channels}, 1.0f))) {}
  Variable weight;
};

LinearAddBlock::LinearAddBlock(int64_t in, int64_t out, int64_t stride, Rng& rng, Activation act,
                               bool csla)
    : act_(act) {
  conv_ = register_module(
      "conv", std::make_shared<Conv2d>(in, out, 3, ConvParams{stride, 1, 1}, false, rng));
  scale_conv_ = register_module("scale_conv", std::make_shared<Scale>(out));
  pointwise_ = register_module(
      "conv_1x1", std::make_shared<Conv2d>(in, out, 1, ConvParams{stride, 0, 1}, false, rng));
  scale_pointwise_ = register_module("scale_1x1", std::make_shared<Scale>(out));
  if (in == out && stride == 1)
    scale_identity_ = register_module("scale_identity", std::make_shared<Scale>(out));
  bn_ = register_module("bn", std::make_shared<BatchNorm2d>(out));
  if (!csla) return;
  scale_conv_->weight.set_requires_grad(false);
  scale_pointwise_->weight.set_requires_grad(false);
}

Variable LinearAddBlock::forward(const Variable& x) const {
  const ProfileRange range(own_name());
  std::vector<Variable> branches{conv_->forward(x), pointwise_->forward(x)};
  std::vector<Variable> scales{scale_conv_->weight, scale_pointwise_->weight};
  if (scale_identity_) {
    branches.push_back(x);
    scales.push_back(scale_identity_->weight);
  }
  return rep_bn_act({branch_sum(branches, scales)}, {bn_->state_for_forward()}, act_,
                    bn_->params());
}

std::shared_ptr<Layer> make_block(BlockStyle style, int64_t in, int64_t out, int64_t stride,
                                  Rng& rng) {
  switch (style.kind) {
    case BlockKind::kRepVGG:
      return std::make_shared<RepVGGBlock>(in, out, stride, rng, style.act);
    case BlockKind::kQARepVGG:
      return std::make_shared<QARepVGGBlock>(in, out, stride, 1, rng, style.act);
    case BlockKind::kQARepVGGV2:
      return std::make_shared<QARepVGGBlock>(in, out, stride, 2, rng, style.act);
    case BlockKind::kLinearAdd:
      return std::make_shared<LinearAddBlock>(in, out, stride, rng, style.act);
    case BlockKind::kRealVGG:
      return std::make_shared<ConvModule>(in, out, 3, stride, style.act, rng);
    case BlockKind::kConvBN:
      return std::make_shared<ConvBNAct>(in, out, 3, stride, style.act, rng);
  }
  fail("make_block: kind {}", static_cast<int>(style.kind));
}

Transpose::Transpose(int64_t in, int64_t out, Rng& rng) {
  // PyTorch's ConvTranspose2d takes fan_in from dimension 1 of its [I,O,k,k] weight.
  const double bound = 1.0 / std::sqrt(static_cast<double>(out * 4));
  weight_ = register_parameter("upsample_transpose.weight",
                               uniform(Shape{out, 2, 2, in}, bound, rng), Layout::kConvTranspose);
  bias_ = register_parameter("upsample_transpose.bias", uniform(Shape{out}, bound, rng));
}

Variable Sequence::forward(const Variable& x) const {
  const ProfileRange range(own_name());
  Variable v = x;
  for (const auto& layer : layers_) v = layer->forward(v);
  return v;
}

}  // namespace sextant
