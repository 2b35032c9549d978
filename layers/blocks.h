// The building blocks of YOLOv6, named and structured as in the official yolov6/layers/common.py,
// so that parameter names agree.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/rng.h"
#include "layers/functional.h"
#include "layers/module.h"

namespace sextant {

// Official: set on every BatchNorm after construction (initialize_weights).
inline constexpr float kBatchNormEps = 1e-3f;
inline constexpr float kBatchNormMomentum = 0.03f;

// Convolution with optional bias. Default initialisation as PyTorch's Conv2d: kaiming uniform with
// a = sqrt(5), i.e. uniform in +-1/sqrt(fan_in), weight and bias alike.
class Conv2d : public Module {
 public:
  Conv2d(int64_t in, int64_t out, int64_t kernel, ConvParams params, bool bias, Rng& rng);
  Variable forward(const Variable& x) const { return conv2d(x, weight, bias, params); }
  Variable weight, bias;
  ConvParams params;
};

class BatchNorm2d : public Module {
 public:
  explicit BatchNorm2d(int64_t channels);
  // Counts the batch when training; pass the state to rep_bn_act.
  BatchNormState state_for_forward() const;
  BatchNormState state;
  Tensor num_batches_tracked;  // i64 scalar
};

// conv (no bias) + BN + activation: official ConvModule and its wrappers ConvBNReLU, ConvBNSiLU,
// ConvBN, whose parameters sit under "block.".
class ConvModule : public Module {
 public:
  ConvModule(int64_t in, int64_t out, int64_t kernel, int64_t stride, Activation act, Rng& rng,
             int64_t groups = 1);
  Variable forward(const Variable& x) const;

 private:
  std::shared_ptr<Conv2d> conv_;
  std::shared_ptr<BatchNorm2d> bn_;
  Activation act_;
};
class ConvBNAct : public Module {
 public:
  ConvBNAct(int64_t in, int64_t out, int64_t kernel, int64_t stride, Activation act, Rng& rng);
  Variable forward(const Variable& x) const { return block_->forward(x); }

 private:
  std::shared_ptr<ConvModule> block_;
};

// RepVGGBlock in training form: 3x3 + BN, 1x1 + BN, and BN alone where input and output agree
// (Ding et al., RepVGG, 2021, fig. 2).
class RepVGGBlock : public Module {
 public:
  RepVGGBlock(int64_t in, int64_t out, int64_t stride, Rng& rng);
  Variable forward(const Variable& x) const;

 private:
  struct ConvBn;
  std::shared_ptr<BatchNorm2d> identity_;
  std::shared_ptr<ConvBn> dense_, pointwise_;
  int64_t stride_;
};

// n RepVGGBlocks in a row: conv1, then block.0 ... block.(n-2).
class RepBlock : public Module {
 public:
  RepBlock(int64_t in, int64_t out, int64_t n, Rng& rng);
  Variable forward(const Variable& x) const;

 private:
  std::vector<std::shared_ptr<RepVGGBlock>> blocks_;
};

// Spatial pyramid pooling with three chained 5x5 pools; parameters under "sppf.".
class SimSPPF : public Module {
 public:
  SimSPPF(int64_t in, int64_t out, Activation act, Rng& rng, int64_t kernel = 5);
  Variable forward(const Variable& x) const;

 private:
  std::shared_ptr<ConvBNAct> cv1_, cv2_;
  int64_t kernel_;
};

// 2x2 stride-2 transposed convolution with bias ("upsample_transpose").
class Transpose : public Module {
 public:
  Transpose(int64_t in, int64_t out, Rng& rng);
  Variable forward(const Variable& x) const { return conv_transpose2d(x, weight_, bias_); }

 private:
  Variable weight_, bias_;
};

// Children under the names "0", "1", ...
class Sequence : public Module {
 public:
  template <class M>
  std::shared_ptr<M> push(std::shared_ptr<M> m) {
    return register_module(std::to_string(count_++), std::move(m));
  }

 private:
  int count_ = 0;
};

}  // namespace sextant
