// SPDX-License-Identifier: Apache-2.0
// The blocks of YOLOv6Lite, made of depthwise and 1x1 convolutions, named and structured as in the
// official yolov6/layers/common.py, so that parameter names agree.
#pragma once

#include <memory>

#include "layers/blocks.h"

namespace sextant {

// Squeeze-and-excitation: x times a gate per image and channel, the hard sigmoid of two 1x1
// convolutions of x's mean (Hu et al., 2018). c / 4 channels between them.
class SEBlock : public Layer {
 public:
  SEBlock(int64_t channels, Rng& rng);
  Variable forward(const Variable& x) const override;

 private:
  std::shared_ptr<Conv2d> conv1_, conv2_;
};

// A kernel x kernel depthwise convolution, then a 1x1, each with a bias, batch-norm and activation.
class DPBlock : public Layer {
 public:
  DPBlock(int64_t in, int64_t out, int64_t kernel, int64_t stride, Activation act, Rng& rng);
  Variable forward(const Variable& x) const override;

 private:
  std::shared_ptr<Conv2d> depthwise_, pointwise_;
  std::shared_ptr<BatchNorm2d> bn1_, bn2_;
  Activation act_;
};

// A 1x1 convolution, then a DPBlock, without a shortcut.
class DarknetBlock : public Layer {
 public:
  DarknetBlock(int64_t in, int64_t out, int64_t kernel, Activation act, Rng& rng);
  Variable forward(const Variable& x) const override;

 private:
  std::shared_ptr<ConvBNAct> conv1_;
  std::shared_ptr<DPBlock> conv2_;
};

// A DarknetBlock on one half of the channels; the other half bypasses it.
class CSPBlock : public Layer {
 public:
  CSPBlock(int64_t in, int64_t out, int64_t kernel, Activation act, Rng& rng);
  Variable forward(const Variable& x) const override;

 private:
  std::shared_ptr<ConvBNAct> conv1_, conv2_, conv3_;
  std::shared_ptr<DarknetBlock> blocks_;
};

// x with its two halves of channels interleaved: channel i of the first half, then of the second.
Variable shuffle_halves(const Variable& x);

// Half of the channels passes; the other half goes through 1x1, 3x3 depthwise, squeeze-and-excitation
// and 1x1. Both are shuffled. Official Lite_EffiBlockS1. Throws Error unless `channels` is even.
class LiteEffiBlockS1 : public Layer {
 public:
  LiteEffiBlockS1(int64_t channels, int64_t middle, Activation act, Rng& rng);
  Variable forward(const Variable& x) const override;

 private:
  int64_t half_;
  std::shared_ptr<ConvBNAct> expand_, depthwise_, project_;
  std::shared_ptr<SEBlock> se_;
};

// Stride 2: two branches of a depthwise 3x3, the second as in S1 with middle / 2 channels inside, are
// concatenated and fused by a depthwise 3x3 and a 1x1. Official Lite_EffiBlockS2.
class LiteEffiBlockS2 : public Layer {
 public:
  LiteEffiBlockS2(int64_t in, int64_t out, int64_t middle, Activation act, Rng& rng);
  Variable forward(const Variable& x) const override;

 private:
  std::shared_ptr<ConvBNAct> depthwise1_, project1_;
  std::shared_ptr<ConvBNAct> expand2_, depthwise2_, project2_;
  std::shared_ptr<SEBlock> se_;
  std::shared_ptr<ConvBNAct> depthwise3_, pointwise3_;
};

}  // namespace sextant
