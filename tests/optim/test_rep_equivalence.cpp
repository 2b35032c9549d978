// SPDX-License-Identifier: Apache-2.0
// The claim of RepOptimizer: a block of constant-scaled linear branches under a plain optimizer and
// its single operator under the optimizer with multipliers are the same training. Here through the
// engine in f32; test_rep_reference.cpp does it in double, where the difference can be rounding
// only.
#include "layers/blocks.h"
#include "optim/adam.h"
#include "optim/parameters.h"
#include "optim/rep_handler.h"
#include "optim/sgd.h"

using namespace sextant;
using namespace sextant::optim;

namespace {

constexpr double kTolerance = 1e-5;

struct Geometry {
  int64_t in, out, kernel, stride;
  bool identity;
};

// What stands in front of batch-norm and activation: branches, or one operator.
class Block : public Module {
 public:
  virtual Variable linear(const Variable& x) const = 0;
  Variable forward(const Variable& x) const {
    return rep_bn_act({linear(x)}, {bn_->state_for_forward()}, Activation::kReLU, {});
  }

 protected:
  void add_bn(int64_t channels) {
    bn_ = register_module("bn", std::make_shared<BatchNorm2d>(channels));
  }
  std::shared_ptr<BatchNorm2d> bn_;
};

class SingleBlock : public Block {
 public:
  SingleBlock(const Geometry& g, Rng& rng) {
    conv = register_module(
        "conv", std::make_shared<Conv2d>(g.in, g.out, g.kernel,
                                         ConvParams{g.stride, g.kernel / 2, 1}, false, rng));
    add_bn(g.out);
  }
  Variable linear(const Variable& x) const override { return conv->forward(x); }
  std::shared_ptr<Conv2d> conv;
};

// Kernels of all odd sizes up to the target's, each with its constant scale, and the identity with
// a trained one. The scales are the weights of batch-norms in evaluation mode that normalise
// nothing: mean 0, variance + eps 1.
class ParallelBlock : public Block {
 public:
  ParallelBlock(const Geometry& g, uint64_t seed) {
    Rng rng(seed);
    for (int64_t k = g.kernel; k >= 1; k -= 2) {
      convs_.push_back(register_module(
          fmt::format("conv_{0}x{0}", k),
          std::make_shared<Conv2d>(g.in, g.out, k, ConvParams{g.stride, k / 2, 1}, false, rng)));
      add_scale(Variable(test::random_scales(g.out, seed + static_cast<uint64_t>(k))));
    }
    if (g.identity)
      add_scale(register_parameter("scale_identity.weight", test::random_scales(g.out, seed + 99)));
    add_bn(g.out);
  }
  Variable linear(const Variable& x) const override {
    BatchNormParams params;
    params.training = false;
    Variable sum;
    for (size_t b = 0; b < scales_.size(); ++b) {
      const Variable branch = b < convs_.size() ? convs_[b]->forward(x) : x;
      const Variable scaled = batch_norm(branch, scales_[b], params);
      sum = sum.defined() ? add(sum, scaled) : scaled;
    }
    return sum;
  }
  // The branches as they are now: reinitialised() of it is the operator that they sum up to.
  RepHandler handler(const std::string& parameter) const {
    RepHandler h{parameter, 1, {}};
    for (size_t b = 0; b < scales_.size(); ++b) {
      const Tensor& scale = scales_[b].gamma.data();
      h.branches.push_back(
          b < convs_.size() ? conv_branch(convs_[b]->weight.dim(1), scale, convs_[b]->weight.data())
                            : identity_branch(scale));
    }
    return h;
  }

 private:
  void add_scale(const Variable& gamma) {
    const Shape shape = gamma.shape();
    scales_.push_back({gamma, Variable(Tensor::zeros(shape)), Tensor::zeros(shape),
                       Tensor::full(shape, 1.0f - kBatchNormEps)});
  }
  std::vector<std::shared_ptr<Conv2d>> convs_;
  std::vector<BatchNormState> scales_;
};

template <class B>
class BlockChain : public Module {
 public:
  void push(std::shared_ptr<B> block) {
    blocks.push_back(register_module(std::to_string(blocks.size()), std::move(block)));
  }
  Variable forward(Variable x) const {
    for (const auto& b : blocks) x = b->forward(x);
    return x;
  }
  std::vector<NamedParameter> named() const {
    std::vector<NamedParameter> out;
    for (const auto& p : parameters()) out.push_back(named_parameter(p.name, p.variable));
    return out;
  }
  std::vector<std::shared_ptr<B>> blocks;
};

struct F32Trial {
  std::vector<Geometry> geometry;
  bool adam = false;
  double wrong_factor = 1;  // of one multiplier
};

std::unique_ptr<Optimizer> make_optimizer(const std::vector<NamedParameter>& p, bool adam) {
  if (adam) return std::make_unique<Adam>(p, AdamOptions{.weight_decay = 0.05, .decoupled = true});
  return std::make_unique<Sgd>(p, SgdOptions{.weight_decay = 5e-4});
}

// The largest difference of weights and of outputs over the steps, relative to the largest value.
double f32_divergence(const F32Trial& trial) {
  BlockChain<ParallelBlock> parallel;
  BlockChain<SingleBlock> single;
  Rng rng(1);
  std::vector<RepHandler> handlers;
  for (size_t i = 0; i < trial.geometry.size(); ++i) {
    parallel.push(std::make_shared<ParallelBlock>(trial.geometry[i], 100 * (i + 1)));
    single.push(std::make_shared<SingleBlock>(trial.geometry[i], rng));
    handlers.push_back(parallel.blocks[i]->handler(fmt::format("{}.conv.weight", i)));
  }
  std::vector<NamedParameter> parameters = single.named();
  reinitialise(handlers, parameters, rng);
  set_multipliers(handlers, parameters, trial.adam ? RepRule::kAdam : RepRule::kSgd);
  REQUIRE(parameters[0].multiplier.defined());
  parameters[0].multiplier.f32()[5] *= static_cast<float>(trial.wrong_factor);
  const auto plain = make_optimizer(parallel.named(), trial.adam);
  const auto multiplied = make_optimizer(parameters, trial.adam);

  double worst = 0;
  constexpr int kSteps = 50;
  const double lr = trial.adam ? 1e-3 : 0.05;
  const auto step = [&](const Variable& y, Optimizer& optimizer) {
    // Half the squared distance to a constant target.
    const Tensor grad = test::random_tensor(y.shape(), 9, 0.0, 2.0);
    const auto rows = static_cast<float>(trial.adam ? 1 : y.data().numel() / y.dim(-1));
    for (int64_t i = 0; i < grad.numel(); ++i) grad.f32()[i] = (y.f32()[i] - grad.f32()[i]) / rows;
    backward({{y, grad}});
    optimizer.step({lr, lr, lr}, 0.9);
    optimizer.zero_grad();
  };
  for (int i = 0; i < kSteps; ++i) {
    const Variable x(
        test::random_tensor({3, 8, 8, trial.geometry[0].in}, 1000 + static_cast<uint64_t>(i)));
    const Variable a = parallel.forward(x), b = single.forward(x);
    worst = std::max(worst, test::relative_difference(b.data(), a.data()));
    step(a, *plain);
    step(b, *multiplied);
    for (size_t k = 0; k < handlers.size(); ++k) {
      const Tensor& w = single.blocks[k]->conv->weight.data();
      const RepHandler now = parallel.blocks[k]->handler("w");
      worst = std::max(worst, test::relative_difference(w, reinitialised(now, w, rng)));
    }
  }
  return worst;
}

}  // namespace

TEST_CASE("branches and single operator train alike, in f32 through the engine") {
  const bool adam = GENERATE(false, true);
  const auto geometry = GENERATE(values<std::vector<Geometry>>({
      {{6, 6, 3, 1, true}},
      {{5, 8, 3, 1, false}},
      {{5, 8, 3, 2, false}},
      {{6, 6, 5, 1, true}},
      {{4, 6, 3, 2, false}, {6, 6, 3, 1, true}, {6, 8, 3, 2, false}},
  }));
  const F32Trial trial{geometry, adam, 1.0};
  F32Trial wrong = trial;
  wrong.wrong_factor = 1.1;
  const double same = f32_divergence(trial), other = f32_divergence(wrong);
  INFO((adam ? "AdamW" : "SGD") << ", " << geometry.size() << " blocks, kernel "
                                << geometry[0].kernel << ": " << same
                                << "; with a multiplier 10% wrong " << other);
  CHECK(same < kTolerance);
  CHECK(other > 10 * kTolerance);
}
