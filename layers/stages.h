// SPDX-License-Identifier: Apache-2.0
// The building blocks of a network's stages: chains and bundles of the blocks of layers/blocks.h,
// named as in the official yolov6/layers/common.py.
#pragma once

#include "layers/blocks.h"

namespace sextant {

// `convs` blocks (2: BottleRep, 3: BottleRep3) and, where input and output agree, a shortcut:
// conv2(conv1(x)) + alpha x. With `weighted`, alpha is a parameter [1], which exists (unused) even
// without a shortcut; otherwise alpha is 1.
class BottleRep : public Layer {
 public:
  BottleRep(int64_t in, int64_t out, BlockStyle style, bool weighted, Rng& rng, int convs = 2);
  Variable forward(const Variable& x) const override;

 private:
  std::vector<std::shared_ptr<Layer>> convs_;
  bool shortcut_;
  Variable alpha_;
};

// n blocks in a row: conv1, then block.0 ... block.(n-2). With `bottle`, n / 2 BottleReps.
class RepBlock : public Layer {
 public:
  RepBlock(int64_t in, int64_t out, int64_t n, BlockStyle style, Rng& rng, bool bottle = false);
  Variable forward(const Variable& x) const override;

 private:
  std::shared_ptr<Layer> first_, rest_;
};

// CSPStackRep: a RepBlock of BottleReps on one half of the channels; the other half bypasses it.
// Hidden channels: floor(out * expansion).
class BepC3 : public Layer {
 public:
  BepC3(int64_t in, int64_t out, int64_t n, double expansion, BlockStyle style, Rng& rng);
  Variable forward(const Variable& x) const override;

 private:
  std::shared_ptr<ConvBNAct> cv1_, cv2_, cv3_;
  std::shared_ptr<RepBlock> m_;
};

// Multi-branch layer aggregation: branches of 0, s and n/2 BottleRep3s (s is the largest power of
// two below n/2; for n below 4 only 0 and 1). All intermediate results are concatenated.
class MBLABlock : public Layer {
 public:
  MBLABlock(int64_t in, int64_t out, int64_t n, double expansion, BlockStyle style, Rng& rng);
  Variable forward(const Variable& x) const override;

 private:
  int64_t hidden_;
  std::shared_ptr<ConvModule> cv1_, cv2_;
  std::vector<std::shared_ptr<Sequence>> branches_;
};

// Spatial pyramid pooling with three chained 5x5 pools; parameters under "sppf.". Official SimSPPF
// and SPPF.
class SimSPPF : public Layer {
 public:
  SimSPPF(int64_t in, int64_t out, Activation act, Rng& rng, int64_t kernel = 5);
  Variable forward(const Variable& x) const override;

 private:
  std::shared_ptr<ConvBNAct> cv1_, cv2_;
  int64_t kernel_;
};

// The same in a CSP structure of seven convolutions; parameters under "cspsppf.". Official
// SimCSPSPPF and CSPSPPF.
class CSPSPPF : public Layer {
 public:
  CSPSPPF(int64_t in, int64_t out, Activation act, Rng& rng, int64_t kernel = 5);
  Variable forward(const Variable& x) const override;

 private:
  std::vector<std::shared_ptr<ConvBNAct>> cv_;
  int64_t kernel_;
};

// Resizes three neighboring levels to the middle one's size and fuses them.
class BiFusion : public Module {
 public:
  // The upper input has `out` channels already.
  BiFusion(int64_t middle, int64_t lower, int64_t out, Activation act, Rng& rng);
  // upper [N,H/2,W/2,out], middle [N,H,W,..], lower [N,2H,2W,..] -> [N,H,W,out]
  Variable forward(const Variable& upper, const Variable& middle, const Variable& lower) const;

 private:
  std::shared_ptr<ConvBNAct> cv1_, cv2_, cv3_, downsample_;
  std::shared_ptr<Transpose> upsample_;
};

// The body of a stage.
enum class StageKind { kRepBlock, kBepC3, kMBLA };
struct StageStyle {
  StageKind kind = StageKind::kRepBlock;
  BlockStyle block;
  double expansion = 0.5;  // BepC3, MBLABlock
};
std::shared_ptr<Layer> make_stage(const StageStyle& style, int64_t in, int64_t out, int64_t n,
                                  Rng& rng);

}  // namespace sextant
