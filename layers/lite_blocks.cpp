// SPDX-License-Identifier: Apache-2.0
#include "layers/lite_blocks.h"

#include "core/profile_range.h"

namespace sextant {
namespace {

std::shared_ptr<ConvBNAct> one_by_one(int64_t in, int64_t out, Activation act, Rng& rng) {
  return std::make_shared<ConvBNAct>(in, out, 1, 1, act, rng);
}

std::shared_ptr<ConvBNAct> depthwise3x3(int64_t channels, int64_t stride, Activation act,
                                        Rng& rng) {
  return std::make_shared<ConvBNAct>(channels, channels, 3, stride, act, rng, channels);
}

int64_t half_of(const char* name, int64_t channels) {
  check(channels >= 2 && channels % 2 == 0, "{}: {} channels, must be even", name, channels);
  return channels / 2;
}

}  // namespace

SEBlock::SEBlock(int64_t channels, Rng& rng) {
  const int64_t squeezed = channels / 4;
  check(squeezed >= 1, "SEBlock: no channels left of {} divided by 4", channels);
  const auto conv = [&](int64_t in, int64_t out) {
    return std::make_shared<Conv2d>(in, out, 1, ConvParams{}, true, rng);
  };
  conv1_ = register_module("conv1", conv(channels, squeezed));
  conv2_ = register_module("conv2", conv(squeezed, channels));
}

Variable SEBlock::forward(const Variable& x) const {
  const ProfileRange range(own_name());
  const Variable squeezed = relu(conv1_->forward(global_average(x)));
  return multiply(x, activation(conv2_->forward(squeezed), Activation::kHardSigmoid));
}

DPBlock::DPBlock(int64_t in, int64_t out, int64_t kernel, int64_t stride, Activation act, Rng& rng)
    : act_(act) {
  depthwise_ = register_module(
      "conv_dw_1",
      std::make_shared<Conv2d>(in, in, kernel, ConvParams{stride, kernel / 2, in}, true, rng));
  bn1_ = register_module("bn_1", std::make_shared<BatchNorm2d>(in));
  pointwise_ =
      register_module("conv_pw_1", std::make_shared<Conv2d>(in, out, 1, ConvParams{}, true, rng));
  bn2_ = register_module("bn_2", std::make_shared<BatchNorm2d>(out));
}

Variable DPBlock::forward(const Variable& x) const {
  const ProfileRange range(own_name());
  const auto normalized = [&](const Conv2d& conv, const BatchNorm2d& bn, const Variable& v) {
    return rep_bn_act({conv.forward(v)}, {bn.state_for_forward()}, act_, bn.params());
  };
  return normalized(*pointwise_, *bn2_, normalized(*depthwise_, *bn1_, x));
}

DarknetBlock::DarknetBlock(int64_t in, int64_t out, int64_t kernel, Activation act, Rng& rng)
    : conv1_(register_module("conv_1", one_by_one(in, out, act, rng))),
      conv2_(register_module("conv_2", std::make_shared<DPBlock>(out, out, kernel, 1, act, rng))) {}

Variable DarknetBlock::forward(const Variable& x) const {
  return conv2_->forward(conv1_->forward(x));
}

CSPBlock::CSPBlock(int64_t in, int64_t out, int64_t kernel, Activation act, Rng& rng) {
  const int64_t hidden = half_of("CSPBlock", out);
  conv1_ = register_module("conv_1", one_by_one(in, hidden, act, rng));
  conv2_ = register_module("conv_2", one_by_one(in, hidden, act, rng));
  conv3_ = register_module("conv_3", one_by_one(out, out, act, rng));
  blocks_ =
      register_module("blocks", std::make_shared<DarknetBlock>(hidden, hidden, kernel, act, rng));
}

Variable CSPBlock::forward(const Variable& x) const {
  const ProfileRange range(own_name());
  return conv3_->forward(concat({blocks_->forward(conv1_->forward(x)), conv2_->forward(x)}));
}

Variable shuffle_halves(const Variable& x) {
  const int64_t half = half_of("shuffle_halves", x.dim(-1));
  std::vector<int64_t> order;
  for (int64_t c = 0; c < half; ++c) order.insert(order.end(), {c, half + c});
  return permute_channels(x, order);
}

LiteEffiBlockS1::LiteEffiBlockS1(int64_t channels, int64_t middle, Activation act, Rng& rng)
    : half_(half_of("LiteEffiBlockS1", channels)) {
  expand_ = register_module("conv_pw_1", one_by_one(half_, middle, act, rng));
  depthwise_ = register_module("conv_dw_1", depthwise3x3(middle, 1, Activation::kIdentity, rng));
  se_ = register_module("se", std::make_shared<SEBlock>(middle, rng));
  project_ = register_module("conv_1", one_by_one(middle, half_, act, rng));
}

Variable LiteEffiBlockS1::forward(const Variable& x) const {
  const ProfileRange range(own_name());
  const Variable passes = slice_channels(x, 0, half_);
  const Variable v = expand_->forward(slice_channels(x, half_, 2 * half_));
  return shuffle_halves(concat({passes, project_->forward(se_->forward(depthwise_->forward(v)))}));
}

LiteEffiBlockS2::LiteEffiBlockS2(int64_t in, int64_t out, int64_t middle, Activation act,
                                 Rng& rng) {
  const int64_t half = half_of("LiteEffiBlockS2", out), inside = half_of("LiteEffiBlockS2", middle);
  depthwise1_ = register_module("conv_dw_1", depthwise3x3(in, 2, Activation::kIdentity, rng));
  project1_ = register_module("conv_1", one_by_one(in, half, act, rng));
  expand2_ = register_module("conv_pw_2", one_by_one(in, inside, act, rng));
  depthwise2_ = register_module("conv_dw_2", depthwise3x3(inside, 2, Activation::kIdentity, rng));
  se_ = register_module("se", std::make_shared<SEBlock>(inside, rng));
  project2_ = register_module("conv_2", one_by_one(inside, half, act, rng));
  depthwise3_ = register_module("conv_dw_3", depthwise3x3(out, 1, act, rng));
  pointwise3_ = register_module("conv_pw_3", one_by_one(out, out, act, rng));
}

Variable LiteEffiBlockS2::forward(const Variable& x) const {
  const ProfileRange range(own_name());
  const Variable first = project1_->forward(depthwise1_->forward(x));
  const Variable second =
      project2_->forward(se_->forward(depthwise2_->forward(expand2_->forward(x))));
  return pointwise3_->forward(depthwise3_->forward(concat({first, second})));
}

}  // namespace sextant
