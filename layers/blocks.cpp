#include "layers/blocks.h"

#include <cmath>

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

namespace {
BatchNormParams norm_params(const Module& m) {
  return {kBatchNormEps, kBatchNormMomentum, m.training()};
}
}  // namespace

ConvModule::ConvModule(int64_t in, int64_t out, int64_t kernel, int64_t stride, Activation act,
                       Rng& rng, int64_t groups)
    : act_(act) {
  conv_ = register_module(
      "conv", std::make_shared<Conv2d>(in, out, kernel, ConvParams{stride, kernel / 2, groups},
                                       false, rng));
  bn_ = register_module("bn", std::make_shared<BatchNorm2d>(out));
}

Variable ConvModule::forward(const Variable& x) const {
  return rep_bn_act({conv_->forward(x)}, {bn_->state_for_forward()}, act_, norm_params(*this));
}

ConvBNAct::ConvBNAct(int64_t in, int64_t out, int64_t kernel, int64_t stride, Activation act,
                     Rng& rng)
    : block_(register_module("block",
                             std::make_shared<ConvModule>(in, out, kernel, stride, act, rng))) {}

struct RepVGGBlock::ConvBn : Module {
  ConvBn(int64_t in, int64_t out, int64_t kernel, int64_t stride, Rng& rng) {
    conv = register_module(
        "conv",
        std::make_shared<Conv2d>(in, out, kernel, ConvParams{stride, kernel / 2, 1}, false, rng));
    bn = register_module("bn", std::make_shared<BatchNorm2d>(out));
  }
  std::shared_ptr<Conv2d> conv;
  std::shared_ptr<BatchNorm2d> bn;
};

RepVGGBlock::RepVGGBlock(int64_t in, int64_t out, int64_t stride, Rng& rng) : stride_(stride) {
  if (in == out && stride == 1)
    identity_ = register_module("rbr_identity", std::make_shared<BatchNorm2d>(in));
  dense_ = register_module("rbr_dense", std::make_shared<ConvBn>(in, out, 3, stride, rng));
  pointwise_ = register_module("rbr_1x1", std::make_shared<ConvBn>(in, out, 1, stride, rng));
}

Variable RepVGGBlock::forward(const Variable& x) const {
  std::vector<BatchNormState> norms{dense_->bn->state_for_forward(),
                                    pointwise_->bn->state_for_forward()};
  if (identity_) norms.push_back(identity_->state_for_forward());
  return rep_vgg(x, dense_->conv->weight, pointwise_->conv->weight, norms, stride_,
                 Activation::kReLU, norm_params(*this));
}

RepBlock::RepBlock(int64_t in, int64_t out, int64_t n, Rng& rng) {
  check(n >= 1, "RepBlock: {} blocks", n);
  blocks_.push_back(register_module("conv1", std::make_shared<RepVGGBlock>(in, out, 1, rng)));
  if (n == 1) return;
  auto rest = register_module("block", std::make_shared<Sequence>());
  for (int64_t i = 1; i < n; ++i)
    blocks_.push_back(rest->push(std::make_shared<RepVGGBlock>(out, out, 1, rng)));
}

Variable RepBlock::forward(const Variable& x) const {
  Variable v = x;
  for (const auto& b : blocks_) v = b->forward(v);
  return v;
}

namespace {
struct Nest : Module {
  template <class M>
  std::shared_ptr<M> push(const std::string& name, std::shared_ptr<M> m) {
    return register_module(name, std::move(m));
  }
};
}  // namespace

SimSPPF::SimSPPF(int64_t in, int64_t out, Activation act, Rng& rng, int64_t kernel)
    : kernel_(kernel) {
  auto nest = register_module("sppf", std::make_shared<Nest>());
  cv1_ = nest->push("cv1", std::make_shared<ConvBNAct>(in, in / 2, 1, 1, act, rng));
  cv2_ = nest->push("cv2", std::make_shared<ConvBNAct>(in / 2 * 4, out, 1, 1, act, rng));
}

Variable SimSPPF::forward(const Variable& x) const {
  const PoolParams pool{kernel_, 1, kernel_ / 2};
  const Variable a = cv1_->forward(x);
  const Variable b = max_pool2d(a, pool);
  const Variable c = max_pool2d(b, pool);
  return cv2_->forward(concat({a, b, c, max_pool2d(c, pool)}));
}

Transpose::Transpose(int64_t in, int64_t out, Rng& rng) {
  // PyTorch's ConvTranspose2d takes fan_in from dimension 1 of its [I,O,k,k] weight.
  const double bound = 1.0 / std::sqrt(static_cast<double>(out * 4));
  weight_ = register_parameter("upsample_transpose.weight",
                               uniform(Shape{out, 2, 2, in}, bound, rng), Layout::kConvTranspose);
  bias_ = register_parameter("upsample_transpose.bias", uniform(Shape{out}, bound, rng));
}

}  // namespace sextant
