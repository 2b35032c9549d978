// SPDX-License-Identifier: Apache-2.0
#include "layers/stages.h"

namespace sextant {
namespace {

int64_t hidden_channels(const char* name, int64_t out, double expansion) {
  const auto hidden = static_cast<int64_t>(static_cast<double>(out) * expansion);
  check(hidden >= 1, "{}: no channels left of {} with expansion {}", name, out, expansion);
  return hidden;
}

std::shared_ptr<ConvBNAct> pointwise(int64_t in, int64_t out, Activation act, Rng& rng) {
  return std::make_shared<ConvBNAct>(in, out, 1, 1, act, rng);
}

}  // namespace

BottleRep::BottleRep(int64_t in, int64_t out, BlockStyle style, bool weighted, Rng& rng, int convs)
    : shortcut_(in == out) {
  for (int i = 0; i < convs; ++i)
    convs_.push_back(register_module("conv" + std::to_string(i + 1),
                                     make_block(style, i == 0 ? in : out, out, 1, rng)));
  if (weighted) alpha_ = register_parameter("alpha", Tensor::full(Shape{1}, 1.0f));
}

Variable BottleRep::forward(const Variable& x) const {
  Variable v = x;
  for (const auto& conv : convs_) v = conv->forward(v);
  if (!shortcut_) return v;
  return alpha_.defined() ? add(v, x, alpha_) : add(v, x);
}

RepBlock::RepBlock(int64_t in, int64_t out, int64_t n, BlockStyle style, Rng& rng, bool bottle) {
  check(n >= 1, "RepBlock: {} blocks", n);
  const auto make = [&](int64_t from) -> std::shared_ptr<Layer> {
    if (bottle) return std::make_shared<BottleRep>(from, out, style, true, rng);
    return make_block(style, from, out, 1, rng);
  };
  const int64_t count = bottle ? n / 2 : n;
  first_ = register_module("conv1", make(in));
  if (count <= 1) return;
  auto rest = register_module("block", std::make_shared<Sequence>());
  for (int64_t i = 1; i < count; ++i) rest->push(make(out));
  rest_ = rest;
}

Variable RepBlock::forward(const Variable& x) const {
  const Variable v = first_->forward(x);
  return rest_ ? rest_->forward(v) : v;
}

BepC3::BepC3(int64_t in, int64_t out, int64_t n, double expansion, BlockStyle style, Rng& rng) {
  const int64_t hidden = hidden_channels("BepC3", out, expansion);
  cv1_ = register_module("cv1", pointwise(in, hidden, style.act, rng));
  cv2_ = register_module("cv2", pointwise(in, hidden, style.act, rng));
  cv3_ = register_module("cv3", pointwise(2 * hidden, out, style.act, rng));
  m_ = register_module("m", std::make_shared<RepBlock>(hidden, hidden, n, style, rng, true));
}

Variable BepC3::forward(const Variable& x) const {
  return cv3_->forward(concat({m_->forward(cv1_->forward(x)), cv2_->forward(x)}));
}

MBLABlock::MBLABlock(int64_t in, int64_t out, int64_t n, double expansion, BlockStyle style,
                     Rng& rng)
    : hidden_(hidden_channels("MBLABlock", out, expansion)) {
  const int64_t half = std::max<int64_t>(n / 2, 1);
  std::vector<int64_t> lengths;
  if (half > 1) {
    int64_t extra = 1;
    while (extra * 2 < half) extra *= 2;
    lengths.push_back(extra);
  }
  lengths.push_back(half);
  const auto branches = static_cast<int64_t>(lengths.size()) + 1;
  int64_t parts = branches;
  for (const int64_t l : lengths) parts += l;
  const auto conv = [&](int64_t from, int64_t to) {
    return std::make_shared<ConvModule>(from, to, 1, 1, style.act, rng);
  };
  cv1_ = register_module("cv1", conv(in, branches * hidden_));
  cv2_ = register_module("cv2", conv(parts * hidden_, out));
  auto m = register_module("m", std::make_shared<Sequence>());
  for (const int64_t length : lengths) {
    branches_.push_back(m->push(std::make_shared<Sequence>()));
    for (int64_t i = 0; i < length; ++i)
      branches_.back()->push(std::make_shared<BottleRep>(hidden_, hidden_, style, true, rng, 3));
  }
}

Variable MBLABlock::forward(const Variable& x) const {
  const Variable y = cv1_->forward(x);
  std::vector<Variable> parts{slice_channels(y, 0, hidden_)};
  for (size_t b = 0; b < branches_.size(); ++b) {
    const int64_t begin = static_cast<int64_t>(b + 1) * hidden_;
    parts.push_back(slice_channels(y, begin, begin + hidden_));
    for (const auto& layer : branches_[b]->layers()) parts.push_back(layer->forward(parts.back()));
  }
  return cv2_->forward(concat(parts));
}

SimSPPF::SimSPPF(int64_t in, int64_t out, Activation act, Rng& rng, int64_t kernel)
    : kernel_(kernel) {
  auto nest = register_module("sppf", std::make_shared<Nest>());
  cv1_ = nest->push("cv1", pointwise(in, in / 2, act, rng));
  cv2_ = nest->push("cv2", pointwise(in / 2 * 4, out, act, rng));
}

Variable SimSPPF::forward(const Variable& x) const {
  return cv2_->forward(pool_pyramid(cv1_->forward(x), kernel_));
}

CSPSPPF::CSPSPPF(int64_t in, int64_t out, Activation act, Rng& rng, int64_t kernel)
    : kernel_(kernel) {
  auto nest = register_module("cspsppf", std::make_shared<Nest>());
  const int64_t hidden = hidden_channels("CSPSPPF", out, 0.5);
  const auto push = [&](int64_t from, int64_t to, int64_t k) {
    cv_.push_back(nest->push("cv" + std::to_string(cv_.size() + 1),
                             std::make_shared<ConvBNAct>(from, to, k, 1, act, rng)));
  };
  push(in, hidden, 1);
  push(in, hidden, 1);
  push(hidden, hidden, 3);
  push(hidden, hidden, 1);
  push(4 * hidden, hidden, 1);
  push(hidden, hidden, 3);
  push(2 * hidden, out, 1);
}

Variable CSPSPPF::forward(const Variable& x) const {
  const Variable deep = cv_[3]->forward(cv_[2]->forward(cv_[0]->forward(x)));
  const Variable pooled = cv_[5]->forward(cv_[4]->forward(pool_pyramid(deep, kernel_)));
  return cv_[6]->forward(concat({cv_[1]->forward(x), pooled}));
}

BiFusion::BiFusion(int64_t middle, int64_t lower, int64_t out, Activation act, Rng& rng) {
  cv1_ = register_module("cv1", pointwise(middle, out, act, rng));
  cv2_ = register_module("cv2", pointwise(lower, out, act, rng));
  cv3_ = register_module("cv3", pointwise(3 * out, out, act, rng));
  upsample_ = register_module("upsample", std::make_shared<Transpose>(out, out, rng));
  downsample_ =
      register_module("downsample", std::make_shared<ConvBNAct>(out, out, 3, 2, act, rng));
}

Variable BiFusion::forward(const Variable& upper, const Variable& middle,
                           const Variable& lower) const {
  return cv3_->forward(concat({upsample_->forward(upper), cv1_->forward(middle),
                               downsample_->forward(cv2_->forward(lower))}));
}

std::shared_ptr<Layer> make_stage(const StageStyle& style, int64_t in, int64_t out, int64_t n,
                                  Rng& rng) {
  switch (style.kind) {
    case StageKind::kRepBlock:
      return std::make_shared<RepBlock>(in, out, n, style.block, rng);
    case StageKind::kBepC3:
      return std::make_shared<BepC3>(in, out, n, style.expansion, style.block, rng);
    case StageKind::kMBLA:
      return std::make_shared<MBLABlock>(in, out, n, style.expansion, style.block, rng);
  }
  fail("make_stage: kind {}", static_cast<int>(style.kind));
}

}  // namespace sextant
