// SPDX-License-Identifier: Apache-2.0
#include "support/block_fixtures.h"

#include <algorithm>

#include "core/config.h"

namespace sextant::test {
namespace {

// One level of a head, as the fixture lays it out. make(kernel): a convolution of the head.
struct HeadLevel : Layer {
  template <class Make>
  HeadLevel(int64_t c, int64_t classes, int64_t distances, const Make& make, Rng& rng) {
    stem = register_module("stem", make(1));
    cls_conv = register_module("cls_conv", make(3));
    reg_conv = register_module("reg_conv", make(3));
    cls = register_module("cls_pred",
                          std::make_shared<Conv2d>(c, classes, 1, ConvParams{}, true, rng));
    reg = register_module("reg_pred",
                          std::make_shared<Conv2d>(c, distances, 1, ConvParams{}, true, rng));
  }
  Variable forward(const Variable& x) const override {
    const Variable s = stem->forward(x);
    return concat(
        {sigmoid(cls->forward(cls_conv->forward(s))), reg->forward(reg_conv->forward(s))});
  }
  std::shared_ptr<Layer> stem, cls_conv, reg_conv;
  std::shared_ptr<Conv2d> cls, reg;
};

struct Shuffle : Layer {
  Variable forward(const Variable& x) const override { return shuffle_halves(x); }
};

// What a file says about its block.
class Description {
 public:
  explicit Description(const BlockFixture& f)
      : fixture(f), structure(Json::parse(f.file.meta("structure"))) {}

  const BlockFixture& fixture;
  Json structure;

  bool named(const std::string& prefix) const { return fixture.name.starts_with(prefix); }
  bool has(const std::string& part) const { return fixture.name.find(part) != std::string::npos; }
  int64_t conv(const std::string& layer, const char* key) const {
    return structure.at(layer).at(key).get<int64_t>();
  }
  int64_t in(const std::string& layer) const { return conv(layer, "i"); }
  int64_t out(const std::string& layer) const { return conv(layer, "o"); }
  int64_t stride(const std::string& layer) const { return conv(layer, "s"); }
  // The number after "_n".
  int64_t repeats() const { return std::stoll(fixture.name.substr(fixture.name.find("_n") + 2)); }
  bool layer_of_type(const std::string& type) const {
    return std::any_of(structure.begin(), structure.end(),
                       [&](const Json& l) { return l.at("type") == type; });
  }
  Activation act() const { return layer_of_type("SiLU") ? Activation::kSiLU : Activation::kReLU; }
  BlockStyle style() const {
    if (has("silu")) return {BlockKind::kConvBN, Activation::kSiLU};
    if (has("realvgg")) return {BlockKind::kRealVGG, Activation::kReLU};
    return {};
  }
};

std::shared_ptr<Layer> conv_bn(const Description& d, Rng& rng) {
  const std::string c = "block.conv";
  const Activation act = d.named("convbnrelu")   ? Activation::kReLU
                         : d.named("convbnsilu") ? Activation::kSiLU
                         : d.named("convbnhs")   ? Activation::kHardswish
                                                 : Activation::kIdentity;
  return std::make_shared<ConvBNAct>(d.in(c), d.out(c), d.conv(c, "k"), d.stride(c), act, rng,
                                     d.conv(c, "g"));
}

// An expansion that gives `hidden` of `out` channels.
double expansion(int64_t hidden, int64_t out) {
  return (static_cast<double>(hidden) + 0.5) / static_cast<double>(out);
}

std::shared_ptr<Layer> bottle(const Description& d, Rng& rng) {
  const std::string inner = d.has("silu") ? "block.conv" : "rbr_dense.conv";
  return std::make_shared<BottleRep>(d.in("conv1." + inner), d.out("conv1." + inner), d.style(),
                                     d.fixture.file.find("param.alpha") != nullptr, rng,
                                     d.named("bottlerep3") ? 3 : 2);
}

std::shared_ptr<Layer> rep_block(const Description& d, Rng& rng) {
  const bool bottles = d.has("bottlerep");
  const std::string first = bottles            ? "conv1.conv1.rbr_dense.conv"
                            : d.has("realvgg") ? "conv1.conv"
                                               : "conv1.rbr_dense.conv";
  return std::make_shared<RepBlock>(d.in(first), d.out(first), d.repeats(), d.style(), rng,
                                    bottles);
}

std::shared_ptr<Layer> lite_block(const Description& d, Rng& rng) {
  constexpr Activation kAct = Activation::kHardswish;
  const auto dp = [&](const std::string& name) {
    return std::make_shared<DPBlock>(d.in(name + "conv_dw_1"), d.out(name + "conv_pw_1"),
                                     d.conv(name + "conv_dw_1", "k"), d.stride(name + "conv_dw_1"),
                                     kAct, rng);
  };
  if (d.named("lite_dpblock")) return dp("");
  if (d.named("lite_darknetblock"))
    return std::make_shared<DarknetBlock>(d.in("conv_1.block.conv"), d.out("conv_2.conv_pw_1"),
                                          d.conv("conv_2.conv_dw_1", "k"), kAct, rng);
  if (d.named("lite_cspblock"))
    return std::make_shared<CSPBlock>(d.in("conv_1.block.conv"), d.out("conv_3.block.conv"),
                                      d.conv("blocks.conv_2.conv_dw_1", "k"), kAct, rng);
  if (d.named("lite_seblock")) return std::make_shared<SEBlock>(d.in("conv1"), rng);
  if (d.named("lite_effiblock_s1"))
    return std::make_shared<LiteEffiBlockS1>(2 * d.in("conv_pw_1.block.conv"),
                                             d.out("conv_pw_1.block.conv"), kAct, rng);
  if (d.named("lite_effiblock_s2"))
    return std::make_shared<LiteEffiBlockS2>(d.in("conv_1.block.conv"),
                                             d.out("conv_pw_3.block.conv"),
                                             2 * d.out("conv_pw_2.block.conv"), kAct, rng);
  if (d.named("lite_channel_shuffle")) return std::make_shared<Shuffle>();
  if (d.named("lite_head_level"))
    return std::make_shared<HeadLevel>(
        d.in("stem.conv_dw_1"), d.out("cls_pred"), d.out("reg_pred"),
        [&](int64_t) { return dp("stem."); }, rng);
  fail("fixtures: no block is known for '{}'", d.fixture.name);
}

std::shared_ptr<Layer> make_layer(const Description& d, Rng& rng) {
  if (d.named("lite_")) return lite_block(d, rng);
  if (d.named("convbn")) return conv_bn(d, rng);
  const std::string dense = "rbr_dense.conv";
  if (d.named("repvgg_"))
    return std::make_shared<RepVGGBlock>(d.in(dense), d.out(dense), d.stride(dense), rng,
                                         Activation::kReLU, d.conv(dense, "g"));
  if (d.named("qarepvgg"))
    return std::make_shared<QARepVGGBlock>(d.in(dense), d.out(dense), d.stride(dense),
                                           d.named("qarepvggv2") ? 2 : 1, rng);
  if (d.named("realvgg"))
    return make_block(d.style(), d.in("conv"), d.out("conv"), d.stride("conv"), rng);
  if (d.named("linearadd"))
    return std::make_shared<LinearAddBlock>(d.in("conv"), d.out("conv"), d.stride("conv"), rng,
                                            Activation::kReLU, d.has("csla"));
  if (d.named("bottlerep")) return bottle(d, rng);
  if (d.named("repblock")) return rep_block(d, rng);
  if (d.named("bepc3"))
    return std::make_shared<BepC3>(d.in("cv1.block.conv"), d.out("cv3.block.conv"), d.repeats(),
                                   expansion(d.out("cv1.block.conv"), d.out("cv3.block.conv")),
                                   d.style(), rng);
  if (d.named("mbla"))
    return std::make_shared<MBLABlock>(
        d.in("cv1.conv"), d.out("cv2.conv"), d.repeats(),
        expansion(d.out("m.0.0.conv1.rbr_dense.conv"), d.out("cv2.conv")), d.style(), rng);
  if (d.named("simsppf") || d.named("sppf"))
    return std::make_shared<SimSPPF>(d.in("sppf.cv1.block.conv"), d.out("sppf.cv2.block.conv"),
                                     d.act(), rng, d.conv("sppf.m", "k"));
  if (d.named("simcspsppf") || d.named("cspsppf"))
    return std::make_shared<CSPSPPF>(d.in("cspsppf.cv1.block.conv"),
                                     d.out("cspsppf.cv7.block.conv"), d.act(), rng,
                                     d.conv("cspsppf.m", "k"));
  if (d.named("transpose"))
    return std::make_shared<Transpose>(d.in("upsample_transpose"), d.out("upsample_transpose"),
                                       rng);
  if (d.named("head_level"))
    return std::make_shared<HeadLevel>(
        d.in("stem.block.conv"), d.out("cls_pred"), d.out("reg_pred"),
        [&](int64_t kernel) {
          const int64_t c = d.in("stem.block.conv");
          return std::make_shared<ConvBNAct>(c, c, kernel, 1, Activation::kSiLU, rng);
        },
        rng);
  fail("fixtures: no block is known for '{}'", d.fixture.name);
}

}  // namespace

FixtureBlock BlockFixture::make() const {
  Rng rng(1);
  const Description d(*this);
  if (d.named("bifusion")) {
    const auto m = std::make_shared<BiFusion>(d.in("cv1.block.conv"), d.in("cv2.block.conv"),
                                              d.out("cv3.block.conv"), d.act(), rng);
    return {m, [m](const std::vector<Variable>& x) { return m->forward(x[0], x[1], x[2]); }};
  }
  const std::shared_ptr<Layer> m = make_layer(d, rng);
  return {m, [m](const std::vector<Variable>& x) { return m->forward(x[0]); }};
}

std::vector<std::string> BlockFixture::inputs() const {
  std::vector<std::string> names;
  for (const auto& entry : file.tensors)
    if (entry.first.starts_with("input.")) names.push_back(entry.first.substr(6));
  std::sort(names.begin(), names.end());
  return names;
}

SafeTensors BlockFixture::state(const Module& module) const {
  SafeTensors params;
  params.path = file.path;
  for (const auto& [n, t] : file.tensors)
    if (n.starts_with("param.")) params.add(n.substr(6), t);
  for (const auto& s : module.state())
    if (s.name.ends_with("num_batches_tracked"))
      params.add(s.name, Tensor::zeros(Shape{}, DType::kI64));
  return params;
}

std::vector<BlockFixture> block_fixtures(const std::string& folder) {
  std::vector<BlockFixture> found;
  for (const auto& path : shared_files(folder + "/blocks", ".safetensors"))
    found.push_back({path.stem().string(), load_safetensors(path)});
  return found;
}

}  // namespace sextant::test
