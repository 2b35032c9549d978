// Blocks against the official implementation (fixtures blocks/*): outputs in both modes, gradients,
// running statistics.
#include "layers/blocks.h"
#include "support/support.h"

namespace {

using namespace sextant;
using test::relative_difference;

constexpr double kEval = 1e-5, kTrain = 1e-5, kGrad = 1e-4;

// One level of the head, as the fixture lays it out.
struct HeadLevel : Module {
  explicit HeadLevel(Rng& rng) {
    const auto silu = Activation::kSiLU;
    stem = register_module("stem", std::make_shared<ConvBNAct>(8, 8, 1, 1, silu, rng));
    cls_conv = register_module("cls_conv", std::make_shared<ConvBNAct>(8, 8, 3, 1, silu, rng));
    reg_conv = register_module("reg_conv", std::make_shared<ConvBNAct>(8, 8, 3, 1, silu, rng));
    cls = register_module("cls_pred", std::make_shared<Conv2d>(8, 7, 1, ConvParams{}, true, rng));
    reg = register_module("reg_pred", std::make_shared<Conv2d>(8, 4, 1, ConvParams{}, true, rng));
  }
  Variable forward(const Variable& x) const {
    const Variable s = stem->forward(x);
    return concat(
        {sigmoid(cls->forward(cls_conv->forward(s))), reg->forward(reg_conv->forward(s))});
  }
  std::shared_ptr<ConvBNAct> stem, cls_conv, reg_conv;
  std::shared_ptr<Conv2d> cls, reg;
};

void check_block(const std::string& name, const std::function<std::shared_ptr<Module>(Rng&)>& make,
                 const std::function<Variable(const Module&, const Variable&)>& forward) {
  SEXTANT_REQUIRE_FIXTURE(f, "blocks/" + name);
  INFO("block " << name);
  Rng rng(1);
  const auto block = make(rng);
  SafeTensors params;
  params.path = f.path;
  for (const auto& [n, t] : f.tensors)
    if (n.starts_with("param.")) params.add(n.substr(6), t);
  for (const auto& s : block->state())
    if (s.name.ends_with("num_batches_tracked"))
      params.add(s.name, Tensor::zeros(Shape{}, DType::kI64));
  block->load_state(params);

  const auto run = [&](bool training) {
    const NoGrad guard;
    block->train(training);
    return nhwc_to_nchw(forward(*block, Variable(nchw_to_nhwc(f.at("input.x")))).data());
  };
  CHECK(relative_difference(run(false), f.at("output.eval_initial")) < kEval);

  block->train(true);
  const Variable x(nchw_to_nhwc(f.at("input.x")), true);
  const Variable y = forward(*block, x);
  CHECK(relative_difference(nhwc_to_nchw(y.data()), f.at("output.train")) < kTrain);
  backward({{y, nchw_to_nhwc(f.at("grad_output"))}});
  CHECK(relative_difference(nhwc_to_nchw(x.grad()), f.at("grad.input")) < kGrad);
  int compared = 0;
  for (const auto& p : block->parameters()) {
    const Tensor* expected = f.find("grad.param." + p.name);
    REQUIRE(expected != nullptr);
    INFO("parameter " << p.name);
    CHECK(relative_difference(to_file_layout(p.variable.grad(), p.layout), *expected) < kGrad);
    ++compared;
  }
  CHECK(compared > 0);
  for (const auto& b : block->buffers()) {
    INFO("buffer " << b.name);
    if (b.tensor.dtype() == DType::kI64)
      CHECK(*b.tensor.data<int64_t>() == *f.at("after." + b.name).data<int64_t>());
    else
      CHECK(relative_difference(b.tensor, f.at("after." + b.name)) < kEval);
  }
  CHECK(relative_difference(run(false), f.at("output.eval")) < kEval);
}

template <class B>
Variable call(const Module& m, const Variable& x) {
  return static_cast<const B&>(m).forward(x);
}

Shape weight_shape(const std::string& name, const std::string& tensor) {
  const auto f = test::fixture("blocks/" + name);
  return f ? f->at("param." + tensor).shape() : Shape{1, 1, 1, 1};
}

}  // namespace

TEST_CASE("RepVGGBlock agrees with the official block") {
  for (const std::string name :
       {"repvgg_identity", "repvgg_noidentity", "repvgg_stride2", "repvgg_stride2_samech"}) {
    const Shape w = weight_shape(name, "rbr_dense.conv.weight");
    const int64_t stride = name.find("stride2") == std::string::npos ? 1 : 2;
    check_block(
        name, [&](Rng& r) { return std::make_shared<RepVGGBlock>(w[1], w[0], stride, r); },
        call<RepVGGBlock>);
  }
}

TEST_CASE("convolution modules agree with the official ones") {
  struct Case {
    const char* name;
    int64_t kernel, stride;
    Activation act;
  };
  for (const Case c : {Case{"convbn_k3s1", 3, 1, Activation::kIdentity},
                       {"convbnrelu_k1s1", 1, 1, Activation::kReLU},
                       {"convbnrelu_k3s1", 3, 1, Activation::kReLU},
                       {"convbnrelu_k3s2", 3, 2, Activation::kReLU},
                       {"convbnsilu_k1s1", 1, 1, Activation::kSiLU},
                       {"convbnsilu_k3s1", 3, 1, Activation::kSiLU},
                       {"convbnsilu_k3s2", 3, 2, Activation::kSiLU}}) {
    const Shape w = weight_shape(c.name, "block.conv.weight");
    check_block(
        c.name,
        [&](Rng& r) {
          return std::make_shared<ConvBNAct>(w[1], w[0], c.kernel, c.stride, c.act, r);
        },
        call<ConvBNAct>);
  }
}

TEST_CASE("depthwise convolution with hardswish agrees with the official one") {
  struct Block : Module {
    explicit Block(int64_t c, Rng& r) {
      m = register_module("block",
                          std::make_shared<ConvModule>(c, c, 3, 1, Activation::kHardswish, r, c));
    }
    Variable forward(const Variable& x) const { return m->forward(x); }
    std::shared_ptr<ConvModule> m;
  };
  const int64_t c = weight_shape("convbnhs_dw_k3s1", "block.conv.weight")[0];
  check_block(
      "convbnhs_dw_k3s1", [&](Rng& r) { return std::make_shared<Block>(c, r); }, call<Block>);
}

TEST_CASE("RepBlock agrees with the official block") {
  for (const auto& [name, n] : {std::pair{"repblock_n1", 1}, {"repblock_n3", 3}}) {
    const Shape w = weight_shape(name, "conv1.rbr_dense.conv.weight");
    check_block(
        name, [&](Rng& r) { return std::make_shared<RepBlock>(w[1], w[0], n, r); }, call<RepBlock>);
  }
}

TEST_CASE("SimSPPF and Transpose agree with the official blocks") {
  check_block(
      "simsppf", [](Rng& r) { return std::make_shared<SimSPPF>(8, 8, Activation::kReLU, r); },
      call<SimSPPF>);
  check_block(
      "sppf_silu", [](Rng& r) { return std::make_shared<SimSPPF>(8, 8, Activation::kSiLU, r); },
      call<SimSPPF>);
  check_block(
      "transpose_k2s2", [](Rng& r) { return std::make_shared<Transpose>(6, 8, r); },
      call<Transpose>);
}

TEST_CASE("the head's layers agree with the official ones") {
  check_block(
      "head_level", [](Rng& r) { return std::make_shared<HeadLevel>(r); }, call<HeadLevel>);
}

TEST_CASE("a state dict with a missing, extra or misshapen tensor is refused by name") {
  Rng rng(3);
  ConvBNAct block(3, 5, 3, 1, Activation::kReLU, rng);
  SafeTensors file;
  file.path = "weights.safetensors";
  block.save_state(file);
  block.load_state(file);
  SafeTensors missing = file;
  missing.tensors.erase(missing.tensors.begin());
  CHECK(test::error_of([&] { block.load_state(missing); }) ==
        "weights.safetensors: has no tensor 'block.conv.weight'");
  SafeTensors extra = file;
  extra.add("block.conv.bias", Tensor::zeros(Shape{5}));
  CHECK(test::error_of([&] { block.load_state(extra); }) ==
        "weights.safetensors: tensor 'block.conv.bias' is not part of this model");
  SafeTensors shape = file;
  shape.tensors[0].second = Tensor::zeros(Shape{5, 3, 1, 1});
  CHECK(test::error_of([&] { block.load_state(shape); }) ==
        "weights.safetensors: tensor 'block.conv.weight' has shape [5,3,1,1], expected [5,3,3,3]");
}
