// Post-training quantization of a small network.
#include <cmath>

#include "deploy/engine.h"
#include "deploy/passes.h"
#include "deploy/ranges.h"
#include "deploy/simulate.h"
#include "deploy/trace.h"
#include "layers/blocks.h"
#include "quant/ptq.h"
#include "support/support.h"

using namespace sextant;
using namespace sextant::quant;

namespace {

// stem - (pool, deconv of a stride-2 convolution) - concat - convolution
class Net : public Module {
 public:
  Net() {
    Rng rng(1);
    stem_ = register_module("stem", std::make_shared<RepVGGBlock>(3, 8, 2, rng));
    down_ =
        register_module("down", std::make_shared<ConvBNAct>(8, 16, 3, 2, Activation::kReLU, rng));
    up_ = register_module("up", std::make_shared<Transpose>(16, 8, rng));
    last_ =
        register_module("last", std::make_shared<ConvBNAct>(16, 8, 1, 1, Activation::kReLU, rng));
    train(false);
  }
  Variable forward(const Variable& x) const {
    const Variable a = stem_->forward(x);
    return last_->forward(concat({max_pool2d(a, {3, 1, 1}), up_->forward(down_->forward(a))}));
  }
  deploy::Graph graph() const {
    deploy::NamedVariables names;
    for (const ParameterRef& p : parameters()) names.emplace_back(p.name, p.variable);
    return deploy::fuse(
        deploy::trace_model([&](const Variable& x) { return forward(x); }, names, {1, 16, 16, 3}));
  }

 private:
  std::shared_ptr<RepVGGBlock> stem_;
  std::shared_ptr<ConvBNAct> down_, last_;
  std::shared_ptr<Transpose> up_;
};

Tensor batch_of(int64_t n, uint64_t seed) {
  Tensor t({n, 16, 16, 3}, DType::kU8);
  Rng rng(seed);
  for (uint8_t& v : t.span<uint8_t>()) v = static_cast<uint8_t>(rng.below(256));
  return t;
}

ImageSource source(std::vector<Tensor> batches) {
  return
      [batches, i = size_t{0}]() mutable { return i < batches.size() ? batches[i++] : Tensor(); };
}

}  // namespace

TEST_CASE("max ranges are the largest values of each group") {
  const Net net;
  const deploy::Graph fused = net.graph();
  const std::vector<Tensor> batches{batch_of(2, 1), batch_of(2, 2), batch_of(1, 3)};
  PtqReport report;
  const deploy::Graph g = quantize(fused, source(batches), {.method = "max"}, &report);
  CHECK(report.images == 5);
  CHECK(report.requantizations == 0);
  CHECK(g.quantized());

  // by hand: group maxima over all tensors
  deploy::Graph grouped = fused;
  deploy::unify_ranges(grouped);
  std::vector<float> amax(grouped.tensors.size(), 0.0f);
  for (const Tensor& b : batches)
    deploy::Engine(grouped, {b.dim(0), 16, 16}).run(b, [&](const deploy::TensorView& v) {
      float& m = amax[static_cast<size_t>(v.info->group)];
      const Tensor values = v.values();
      for (const float x : values.span<float>()) m = std::max(m, std::abs(x));
    });
  for (const deploy::TensorInfo& t : g.tensors) {
    CAPTURE(t.name);
    REQUIRE(t.has_range());
    if (t.name != "images") CHECK(t.amax == amax[static_cast<size_t>(t.group)]);
  }
  CHECK(g.tensors[static_cast<size_t>(g.input)].amax == 1.0f);
  // stem, pool, deconv and concat share one signed range
  for (const PtqGroup& group : report.groups)
    if (group.tensors.size() > 1) {
      CHECK(group.tensors.size() == 4);
      CHECK_FALSE(group.is_unsigned);
      CHECK(group.amax == group.observed);
    }
}

TEST_CASE("every method gives ranges within what was seen, and an int8 engine near fp32") {
  const std::string method = GENERATE("max", "percentile", "mse", "entropy");
  const Net net;
  PtqReport report;
  const deploy::Graph g = quantize(net.graph(), source({batch_of(4, 4), batch_of(4, 5)}),
                                   {.method = method, .percentile = 99.9, .images = 4}, &report);
  CAPTURE(method);
  CHECK(report.images == 4);  // the second batch is not asked for
  for (const PtqGroup& group : report.groups) {
    CHECK(group.amax > 0);
    if (group.observed > 0) CHECK(group.amax <= group.observed * 1.001f);
  }
  const Tensor images = batch_of(2, 6);
  const Tensor exact = deploy::Engine(g, {2, 16, 16}).run(images);
  deploy::Engine engine(g, {2, 16, 16, deploy::Precision::kInt8});
  const double apart = test::relative_difference(engine.run(images), exact);
  CAPTURE(apart);
  CHECK(apart < (method == "entropy" ? 1.0 : 0.15));  // entropy clips low: see calibrator.h
  deploy::Engine simulation = deploy::make_simulation(g, {2, 16, 16});
  for (const auto& d : deploy::compare_engines(engine, simulation, images)) CHECK(d.max_steps == 0);
}

TEST_CASE("what calibration refuses") {
  const deploy::Graph g = Net().graph();
  CHECK(test::error_of([&] { quantize(g, source({}), {}); }) == "ptq: no images to calibrate on");
  CHECK(test::error_of([&] { quantize(g, source({}), {.method = "median"}); }).find("median") !=
        std::string::npos);
  deploy::Graph broken = g;
  for (deploy::Node& n : broken.nodes)
    if (n.name == "down.block.conv") {
      n.bias = n.bias.clone();
      n.bias.f32()[0] = INFINITY;
    }
  CHECK(test::error_of([&] {
          quantize(broken, source({batch_of(1, 7)}), {});
        }).starts_with("ptq: tensor 'down.block.conv'"));
}
