// SPDX-License-Identifier: Apache-2.0
// The rules of TensorRT's explicit quantization, checked on exported models: symmetric s8
// throughout, float biases, one Q/DQ pair per tensor, residuals where convolutions take them in.
#include <onnx/onnx_pb.h>

#include <map>
#include <set>

#include "deploy/networks.h"
#include "deploy/onnx/export.h"
#include "deploy/onnx/import.h"
#include "deploy/run_engine.h"

using namespace sextant;
using namespace sextant::deploy;

namespace {

Graph ranged_graph(Activation act) {
  const test::MixedNet net(act, 31);
  Graph g = test::with_ranges(fuse(test::traced(net, {1, 32, 32, 3})),
                              test::random_images({1, 32, 32, 3}, 32));
  for (Node& n : g.nodes)  // a node kept in float
    if (n.name == "c3.block.conv") n.precision = Precision::kFloat32;
  return g;
}

std::string for_tensorrt(const Graph& g) {
  OnnxOptions o;
  o.precision = OnnxPrecision::kInt8;
  o.target = OnnxTarget::kTensorRt;
  o.height = o.width = 32;
  return to_onnx(g, o);
}

class Rules {
 public:
  explicit Rules(const std::string& bytes) {
    REQUIRE(model_.ParseFromString(bytes));
    for (const onnx::NodeProto& n : model_.graph().node()) {
      for (const std::string& o : n.output()) makers_[o] = &n;
      for (const std::string& i : n.input()) readers_[i].push_back(&n);
    }
    for (const onnx::TensorProto& t : model_.graph().initializer()) constants_[t.name()] = &t;
  }

  void check_constants() const {
    for (const auto& [name, t] : constants_) {
      CAPTURE(name);
      CHECK(t->data_type() != onnx::TensorProto::UINT8);
      CHECK(t->data_type() != onnx::TensorProto::INT32);
    }
  }
  // Each value is quantized at most once, and then read by nothing else; its integers have one
  // reader; zero points are 0.
  int check_pairs() const {
    int pairs = 0;
    for (const onnx::NodeProto& n : model_.graph().node()) {
      CAPTURE(n.name());
      if (n.op_type() == "DequantizeLinear") CHECK(maker(n.input(0)) == "QuantizeLinear");
      if (n.op_type() != "QuantizeLinear") continue;
      ++pairs;
      const onnx::TensorProto& zero = *constants_.at(n.input(2));
      CHECK(zero.data_type() == onnx::TensorProto::INT8);
      CHECK(zero.raw_data() == std::string(zero.raw_data().size(), '\0'));
      CHECK(readers_.at(n.input(0)).size() == 1);
      CHECK(maker(n.input(0)) != "DequantizeLinear");
      REQUIRE(readers_.at(n.output(0)).size() == 1);
      const onnx::NodeProto& back = *readers_.at(n.output(0))[0];
      CHECK(back.op_type() == "DequantizeLinear");
      CHECK(back.input(1) == n.input(1));
      CHECK(back.input(2) == n.input(2));
    }
    return pairs;
  }
  // Convolutions between integers have weights in pairs, a scale per channel, and float biases.
  int check_convolutions() const {
    int integer = 0;
    for (const onnx::NodeProto& n : model_.graph().node()) {
      if (n.op_type() != "Conv" && n.op_type() != "ConvTranspose") continue;
      CAPTURE(n.name());
      if (n.input_size() > 2)
        CHECK(constants_.at(n.input(2))->data_type() == onnx::TensorProto::FLOAT);
      if (maker(n.input(1)) != "DequantizeLinear") continue;
      ++integer;
      CHECK(maker(n.input(0)) == "DequantizeLinear");
      const onnx::NodeProto& q = *makers_.at(makers_.at(n.input(1))->input(0));
      const onnx::TensorProto& weight = *constants_.at(q.input(0));
      CHECK(weight.data_type() == onnx::TensorProto::FLOAT);
      const int axis = n.op_type() == "ConvTranspose";
      REQUIRE(q.attribute_size() == 1);
      CHECK(q.attribute(0).i() == axis);
      CHECK(constants_.at(q.input(1))->dims(0) == weight.dims(axis));
    }
    return integer;
  }
  bool quantizes(const std::string& value) const {
    const auto found = readers_.find(value);
    return found != readers_.end() &&
           std::ranges::any_of(found->second, [](const onnx::NodeProto* n) {
             return n->op_type() == "QuantizeLinear";
           });
  }
  // A sum behind a quantized convolution takes its result as it is, and the other side from a pair.
  int check_residuals() const {
    int sums = 0;
    for (const onnx::NodeProto& n : model_.graph().node()) {
      if (n.op_type() != "Add" || !n.name().ends_with("/add")) continue;
      CAPTURE(n.name());
      std::multiset<std::string> sides{maker(n.input(0)), maker(n.input(1))};
      CHECK(sides.contains("DequantizeLinear"));
      CHECK((sides.contains("Conv") || sides.count("DequantizeLinear") == 2));
      ++sums;
    }
    return sums;
  }

 private:
  std::string maker(const std::string& value) const {
    const auto found = makers_.find(value);
    return found == makers_.end() ? "" : found->second->op_type();
  }

  onnx::ModelProto model_;
  std::map<std::string, const onnx::NodeProto*> makers_;
  std::map<std::string, std::vector<const onnx::NodeProto*>> readers_;
  std::map<std::string, const onnx::TensorProto*> constants_;
};

}  // namespace

TEST_CASE("models for TensorRT follow the rules of its explicit quantization") {
  for (const Activation act : {Activation::kReLU, Activation::kSiLU, Activation::kHardswish}) {
    CAPTURE(name_of(act));
    const Graph g = ranged_graph(act);
    const Rules rules(for_tensorrt(g));
    rules.check_constants();
    const auto ranged = std::ranges::count_if(g.nodes, [&](const Node& n) {
      return g.tensors[static_cast<size_t>(n.output)].has_range();
    });
    const auto integer =
        std::ranges::count_if(g.nodes, [&](const Node& n) { return runs_in_int8(g, n); });
    // of tensors and weights; a scaled residual and a branch behind an activation have their own
    CHECK(rules.check_pairs() >= ranged + integer);
    CHECK(rules.check_convolutions() == integer);
    CHECK(rules.check_residuals() == 2);
  }
}

// As it was written: all activations but the image are signed.
TEST_CASE("models for TensorRT come back with the same integers and ranges") {
  for (const Activation act : {Activation::kReLU, Activation::kSiLU}) {
    CAPTURE(name_of(act));
    const Graph unsigned_too = ranged_graph(act);
    Graph g = unsigned_too;
    make_signed(g);
    const std::string file = for_tensorrt(g);
    CHECK(file == for_tensorrt(unsigned_too));
    const Graph back = from_onnx(file, "m.onnx");
    REQUIRE(back.nodes.size() == g.nodes.size());
    for (size_t t = 0; t < g.tensors.size(); ++t) {
      CAPTURE(g.tensors[t].name);
      CHECK(back.tensors[t].scale() == g.tensors[t].scale());
      CHECK(back.tensors[t].is_unsigned == g.tensors[t].is_unsigned);
    }
    CHECK(g.tensors[static_cast<size_t>(g.input)].is_unsigned);
    CHECK(Rules(file).quantizes("images"));
    for (size_t i = 0; i < g.nodes.size(); ++i) {
      const Node &a = g.nodes[i], &b = back.nodes[i];
      CAPTURE(a.name);
      CHECK(a.name == b.name);
      CHECK(a.attributes == b.attributes);
      CHECK(a.precision == b.precision);
      if (!a.has_weight()) continue;
      if (a.bias.defined()) CHECK(test::max_difference(a.bias, b.bias) == 0);
      if (a.precision == Precision::kFloat32) continue;
      CHECK(a.weight_scale == b.weight_scale);
      CHECK(quantize_weight(a.weight, a.weight_scale) == quantize_weight(b.weight, b.weight_scale));
    }
    const Tensor ours = test::run_on_noise(g, Precision::kInt8);
    CHECK(test::max_difference(test::run_on_noise(back, Precision::kInt8), ours) == 0);
    const Tensor finer = test::run_on_noise(unsigned_too, Precision::kInt8);
    CHECK(test::max_difference(finer, ours) > 0);
    for (Node& n : g.nodes)
      if (n.has_weight() && holds_image(g, n.inputs[0])) n.precision = Precision::kFloat32;
    const std::string exact_image = for_tensorrt(g);
    CHECK_FALSE(Rules(exact_image).quantizes("images"));
    CHECK(
        test::max_difference(test::run_on_noise(from_onnx(exact_image, "m.onnx"), Precision::kInt8),
                             test::run_on_noise(g, Precision::kInt8)) == 0);
  }
}
