// SPDX-License-Identifier: Apache-2.0
// One small model per rule of the ONNX import: those of tests/fixtures/onnx/make_operators.py, with
// the outputs of ONNX's reference evaluator, and models written here that must be refused.
#include <cmath>
#include <numeric>

#include "deploy/engine/engine.h"
#include "deploy/engine/simulate.h"
#include "deploy/graph/file.h"
#include "deploy/networks.h"
#include "deploy/onnx/export.h"
#include "deploy/onnx/import.h"
#include "deploy/onnx/writer.h"

using namespace sextant;
using namespace sextant::deploy;

namespace {

// ---- recorded models

struct Recorded {
  std::string name, model;
  Tensor images, output;  // output as ONNX orders it
};

std::vector<Recorded> recorded() {
  const SafeTensors file = load_safetensors(std::filesystem::path(SEXTANT_SOURCE_DIR) /
                                            "tests/fixtures/onnx/operators.safetensors");
  std::vector<Recorded> all;
  for (const auto& [key, tensor] : file.tensors) {
    if (!key.ends_with(".model")) continue;
    const std::string name = key.substr(0, key.size() - 6);
    const auto bytes = tensor.span<uint8_t>();
    all.push_back({name, std::string(bytes.begin(), bytes.end()), file.at(name + ".images"),
                   file.at(name + ".output")});
  }
  return all;
}

Tensor run(const Graph& g, const Tensor& images) {
  EngineConfig config{images.dim(0), images.dim(1), images.dim(2), Precision::kFloat32};
  config.float_images = true;
  return Engine(g, config).run(images);
}

// The largest distance of values in the same order, relative to the largest value.
double apart(const Tensor& ours, const Tensor& theirs) {
  const Tensor a = ours.shape().rank() == 4 ? nhwc_to_nchw(ours) : ours;
  REQUIRE(a.numel() == theirs.numel());
  return test::relative_difference(a.reshape({a.numel()}), theirs.reshape({a.numel()}));
}

// ---- models written here

class Model {
 public:
  Model() : writer(*model_.mutable_graph()) {
    model_.set_ir_version(8);
    opset(17);
    model_.mutable_graph()->set_name("test");
    writer.value(true, "x", onnx::TensorProto::FLOAT, {1, 3, 6, 8});
  }
  void opset(int64_t version) {
    model_.clear_opset_import();
    onnx::OperatorSetIdProto& o = *model_.add_opset_import();
    o.set_domain("");
    o.set_version(version);
  }
  std::string filled(const std::string& name, const std::vector<int64_t>& dims) {
    const auto n = std::accumulate(dims.begin(), dims.end(), int64_t{1}, std::multiplies<>());
    return writer.floats(name, dims, std::vector<float>(static_cast<size_t>(n), 0.5f));
  }
  std::string conv(const std::vector<OnnxAttribute>& attributes = {}) {
    return writer.node("Conv", "conv", {"x", filled("w", {8, 3, 3, 3})}, attributes);
  }
  std::string bytes(const std::string& output) {
    model_.mutable_graph()->clear_output();
    writer.value(false, output, onnx::TensorProto::FLOAT, {});
    return model_.SerializeAsString();
  }
  // The message about a model that ends in `output`.
  std::string error(const std::string& output) {
    return test::error_of([&] { from_onnx(bytes(output), "m.onnx"); });
  }

 private:
  onnx::ModelProto model_;

 public:
  OnnxWriter writer;
};

std::string about(const std::string& op, const std::string& text) {
  return "m.onnx: operator '" + op + "' (node '" + text;
}

}  // namespace

TEST_CASE("every recorded model computes what ONNX defines, also behind our own export") {
  const std::vector<Recorded> all = recorded();
  REQUIRE(all.size() >= 30);
  for (const Recorded& r : all) {
    CAPTURE(r.name);
    const Graph g = from_onnx(r.model, r.name);
    if (g.quantized()) continue;  // below
    CHECK(apart(run(g, r.images), r.output) < 2e-6);
    const test::TemporaryFolder folder;
    save_deploy(folder / "g.safetensors", g);
    CHECK(apart(run(load_deploy(folder / "g.safetensors"), r.images), r.output) < 2e-6);
    OnnxOptions options;
    options.height = r.images.dim(1);
    options.width = r.images.dim(2);
    options.batch = r.images.dim(0);
    options.precision = OnnxPrecision::kFloat32;
    const Graph again = from_onnx(to_onnx(g, options), "again.onnx");
    CHECK(apart(run(again, r.images), r.output) < 2e-6);
  }
}

TEST_CASE("a HardSwish that is written with a ReLU6 is one") {
  int seen = 0;
  for (const Recorded& r : recorded()) {
    if (!r.name.starts_with("hardswish_") && r.name != "relu6_gate") continue;
    CAPTURE(r.name);
    ++seen;
    const Graph g = from_onnx(r.model, r.name);
    const bool gate = r.name == "relu6_gate";
    const auto with = [&](Activation a) {
      return std::ranges::count_if(
          g.nodes, [&](const Node& n) { return n.has_weight() && n.activation() == a; });
    };
    CHECK(with(Activation::kHardswish) == !gate);
    CHECK(with(Activation::kHardSigmoid) == gate);
    CHECK(with(Activation::kReLU6) == 0);
    CHECK(std::ranges::count(g.nodes, NodeKind::kMultiply, &Node::kind) == gate);
    CHECK(std::ranges::count(g.nodes, NodeKind::kActivation, &Node::kind) == 0);
  }
  CHECK(seen == 5);
}

TEST_CASE("recorded models run in int8") {
  for (const Recorded& r : recorded()) {
    if (r.name == "clip_small") continue;  // all of it is below one step
    CAPTURE(r.name);
    Tensor bytes(r.images.shape(), DType::kU8), images(r.images.shape());
    for (int64_t i = 0; i < bytes.numel(); ++i) {
      bytes.data<uint8_t>()[i] = static_cast<uint8_t>(std::lround(r.images.f32()[i] * 255));
      images.f32()[i] = static_cast<float>(bytes.data<uint8_t>()[i]) / 255.0f;
    }
    const Graph g = from_onnx(r.model, r.name);
    const Graph q = g.quantized() ? g : test::with_ranges(g, bytes);
    const EngineConfig config{bytes.dim(0), bytes.dim(1), bytes.dim(2), Precision::kInt8};
    const Tensor exact = run(g, images);
    CHECK(test::relative_difference(Engine(q, config).run(bytes), exact) < 0.1);
  }
}

TEST_CASE("means and transposed convolutions: simulated to the bit, and in integers alone") {
  int seen = 0;
  for (const Recorded& r : recorded()) {
    if (!r.name.starts_with("mean_") && !r.name.starts_with("transposed_") &&
        !r.name.starts_with("strides_") && !r.name.starts_with("depth_to_space"))
      continue;
    CAPTURE(r.name);
    ++seen;
    Tensor bytes(r.images.shape(), DType::kU8);
    for (int64_t i = 0; i < bytes.numel(); ++i)
      bytes.data<uint8_t>()[i] = static_cast<uint8_t>(std::lround(r.images.f32()[i] * 255));
    const Graph g = test::with_ranges(from_onnx(r.model, r.name), bytes);
    EngineConfig config{bytes.dim(0), bytes.dim(1), bytes.dim(2), Precision::kInt8};
    Engine engine(g, config), simulation = make_simulation(g, config);
    for (const StepDifference& d : compare_engines(engine, simulation, bytes)) {
      CAPTURE(d.tensor);
      CHECK(d.differing == 0);
      CHECK(d.max_float <= 1e-6);
    }
    config.precision = Precision::kInteger;
    Engine integer(g, config);
    for (const StepDifference& d : compare_layers(integer, engine, bytes)) CHECK(d.max_steps <= 1);
  }
  CHECK(seen >= 25);
}

TEST_CASE("what an operator does not read is refused, by node and name") {
  const OnnxAttribute axes{"axes", std::vector<int64_t>{2, 3}};
  Model resize;
  const float twice[] = {2, 2};
  resize.writer.node("Resize", "up", {"x", "", resize.writer.floats("s", {2}, twice)}, {axes});
  CHECK(resize.error("up").starts_with("m.onnx: operator 'Resize' (node 'up'): "));
  Model relu;
  relu.writer.node("Relu", "relu", {"x"}, {{"negative_slope", 0.1f}});
  CHECK(relu.error("relu") == about("Relu", "relu'): attribute 'negative_slope' is not supported"));
  Model conv;
  conv.conv({{"output_padding", std::vector<int64_t>{1, 1}}});
  CHECK(conv.error("conv") == about("Conv", "conv'): attribute 'output_padding' is not supported"));
  Model deconv;
  deconv.writer.node(
      "ConvTranspose", "up", {"x", deconv.filled("w", {3, 4, 2, 2})},
      {{"output_shape", std::vector<int64_t>{12, 18}}, {"strides", std::vector<int64_t>{2, 2}}});
  CHECK(deconv.error("up") ==
        about("ConvTranspose", "up'): output_shape 18 is larger than its windows reach"));
  Model sigmoid;
  sigmoid.writer.node("Sigmoid", "s", {"x", sigmoid.filled("w", {1})});
  CHECK(sigmoid.error("s") == about("Sigmoid", "s'): input 1 ('w') is not supported"));
  Model folded;  // the same for constants
  folded.writer.node("Reshape", "r",
                     {folded.filled("w", {3}), folded.writer.int64s("d", {1, 3, 1, 1})},
                     {{"other", int64_t{1}}});
  folded.writer.node("Mul", "m", {"x", "r"});
  CHECK(folded.error("m") == about("Reshape", "r'): attribute 'other' is not supported"));
  Model typed;
  typed.writer.node("LeakyRelu", "l", {"x"}, {{"alpha", int64_t{1}}});
  CHECK(typed.error("l") == about("LeakyRelu", "l'): attribute 'alpha' has the wrong type"));
}

TEST_CASE("operators whose parts do not fit are refused") {
  Model kernel;
  kernel.conv({{"kernel_shape", std::vector<int64_t>{5, 5}}});
  CHECK(kernel.error("conv") ==
        about("Conv", "conv'): kernel_shape is 5x5, but its weight is 3x3"));
  Model bias;
  bias.writer.node("Conv", "conv", {"x", bias.filled("w", {8, 3, 3, 3}), bias.filled("b", {1})});
  CHECK(bias.error("conv") == about("Conv", "conv'): its bias has 1 values for 8 channels"));
  Model dropout;
  const uint8_t yes = 1;
  dropout.writer.node("Cast", "yes", {dropout.writer.zero_point("t", yes)},
                      {{"to", int64_t{onnx::TensorProto::BOOL}}});
  dropout.writer.node("Dropout", "drop", {"x", "", "yes"});
  CHECK(dropout.error("drop") ==
        about("Dropout", "drop'): training_mode is true: its result is random"));
  Model split;
  split.writer.node("Split", "split", {"x", split.writer.int64s("n", {1, 1})},
                    std::vector<std::string>{"a", "b"}, {{"axis", int64_t{1}}});
  CHECK(split.error("b") == about("Split", "split'): its parts have 2 channels, its input 3"));
  Model widths;  // shapes as ONNX orders them
  widths.conv();
  widths.writer.node("Concat", "both", {"x", "conv"}, {{"axis", int64_t{1}}});
  const std::string message = widths.error("both");
  CAPTURE(message);
  CHECK(message.find("[1,3,6,8] and [1,8,4,6]") != std::string::npos);
  Model batch;
  batch.writer.node("Reshape", "row", {"x", batch.writer.int64s("d", {2, -1})});
  CHECK(batch.error("row").find("node 'row'") != std::string::npos);
  Model loop;
  loop.writer.node("Add", "a", {"x", "b"});
  loop.writer.node("Relu", "b", {"a"});
  CHECK(loop.error("b").find("depends on itself") != std::string::npos);
}

TEST_CASE("integers between QuantizeLinear and DequantizeLinear") {
  const auto pair = [](Model& m, float out) {
    const std::string s = m.writer.scalar("s", 0.01f), other = m.writer.scalar("o", out);
    const std::string zero = m.writer.zero_point("z", 0);
    m.writer.node("QuantizeLinear", "q", {"x", s, zero});
    m.writer.node("DequantizeLinear", "d", {"q", out == 0.01f ? s : other, zero});
  };
  Model same;
  pair(same, 0.01f);
  same.writer.node("Relu", "r", {"d"});
  CHECK(same.error("r") == "no error");
  Model rescaled;
  pair(rescaled, 0.02f);
  CHECK(rescaled.error("d") ==
        about("DequantizeLinear",
              "d'): its scale and zero point are not those of the QuantizeLinear before it"));
  Model open;
  pair(open, 0.01f);
  open.writer.node("Relu", "r", {"q"});
  CHECK(open.error("r").find("reads the integers of a QuantizeLinear") != std::string::npos);
  Model plain;
  plain.writer.node("DequantizeLinear", "d", {"x", plain.writer.scalar("s", 0.01f)});
  CHECK(plain.error("d") == about("DequantizeLinear", "d'): its input is not quantized"));
}

TEST_CASE("a model's own input size is kept, square or not") {
  Model m;
  const Graph g = from_onnx(m.bytes(m.conv()), "m.onnx");
  CHECK(g.image_size == 6);
  CHECK(g.image_width == 8);
  CHECK(g.width_for(6) == 8);
  CHECK(g.width_for(32) == 32);
  const test::TemporaryFolder folder;
  save_deploy(folder / "g.safetensors", g);
  CHECK(load_deploy(folder / "g.safetensors").image_width == 8);
  OnnxOptions options;
  options.height = options.width = 16;
  const Graph again = from_onnx(to_onnx(g, options), "again.onnx");
  CHECK(again.image_size == 6);
  CHECK(again.image_width == 8);
}

TEST_CASE("a ReLU that is only in the range of a Q/DQ pair becomes one") {
  for (const Recorded& r : recorded()) {
    if (!r.name.starts_with("relu_in_")) continue;
    CAPTURE(r.name);
    const Graph g = from_onnx(r.model, r.name);
    REQUIRE(g.quantized());
    Tensor bytes(r.images.shape(), DType::kU8);
    for (int64_t i = 0; i < bytes.numel(); ++i)
      bytes.data<uint8_t>()[i] = static_cast<uint8_t>(std::lround(r.images.f32()[i] * 255));
    const EngineConfig config{bytes.dim(0), bytes.dim(1), bytes.dim(2), Precision::kInt8};
    CHECK(apart(Engine(g, config).run(bytes), r.output) < 0.03);
    const auto relus = std::ranges::count_if(
        g.nodes, [](const Node& n) { return n.activation() == Activation::kReLU; });
    CHECK(relus == 2);
  }
}
