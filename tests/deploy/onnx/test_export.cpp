// SPDX-License-Identifier: Apache-2.0
// Exported ONNX models are imported as the same graph; broken ones are refused.
#include <cmath>

#include "core/convert.h"
#include "core/file.h"
#include "deploy/networks.h"
#include "deploy/onnx/export.h"
#include "deploy/onnx/import.h"
#include "deploy/run_engine.h"

using namespace sextant;
using namespace sextant::deploy;
using test::run_on_noise;

namespace {

Graph mixed_graph(Activation act, bool quantized) {
  const test::MixedNet net(act, 31);
  Graph g = fuse(test::traced(net, {1, 32, 32, 3}));
  g.class_names = {"a", "b", "c"};
  g.image_size = 320;
  g.gray_border = 7;
  return quantized ? test::with_ranges(g, test::random_images({1, 32, 32, 3}, 32)) : g;
}

OnnxOptions options(OnnxPrecision precision) {
  OnnxOptions o;
  o.precision = precision;
  o.height = o.width = 32;
  return o;
}

Graph there_and_back(const Graph& g, const OnnxOptions& o) {
  return from_onnx(to_onnx(g, o), "m.onnx");
}

// The floats as a file holds them.
std::string bytes_of(std::initializer_list<float> values) {
  std::string bytes;
  for (const float v : values) bytes.append(reinterpret_cast<const char*>(&v), sizeof(v));
  return bytes;
}

// With the biases of `other`, which went through 32-bit integers.
Graph with_biases_of(Graph g, const Graph& other) {
  for (size_t i = 0; i < g.nodes.size(); ++i) g.nodes[i].bias = other.nodes[i].bias;
  return g;
}

// The factor of a sum; for other nodes of nothing.
float& residual_scale(Node& node) {
  static float none = 0;
  if (auto* conv = std::get_if<ConvAttributes>(&node.attributes)) return conv->residual_scale;
  if (auto* add = std::get_if<AddAttributes>(&node.attributes)) return add->residual_scale;
  return none;
}

void check_same_structure(const Graph& a, const Graph& b, double tolerance = 0) {
  CHECK(a.class_names == b.class_names);
  CHECK(a.image_size == b.image_size);
  CHECK(a.gray_border == b.gray_border);
  REQUIRE(a.nodes.size() == b.nodes.size());
  for (size_t i = 0; i < a.nodes.size(); ++i) {
    Node x = a.nodes[i], y = b.nodes[i];
    CAPTURE(x.name, y.name);
    CHECK(x.name == y.name);
    REQUIRE(x.kind() == y.kind());
    CHECK(x.precision == y.precision);
    REQUIRE(x.inputs.size() == y.inputs.size());
    for (size_t k = 0; k < x.inputs.size(); ++k)
      CHECK(a.tensors[static_cast<size_t>(x.inputs[k])].name ==
            b.tensors[static_cast<size_t>(y.inputs[k])].name);
    float& p = residual_scale(x);
    float& q = residual_scale(y);
    CHECK(std::abs(p - q) <= tolerance);
    q = p;
    CHECK(x.attributes == y.attributes);
  }
}

std::string replaced(std::string bytes, const std::string& from, const std::string& to) {
  REQUIRE(from.size() == to.size());
  const size_t at = bytes.find(from);
  REQUIRE(at != std::string::npos);
  return bytes.replace(at, from.size(), to);
}

}  // namespace

TEST_CASE("float ONNX models are imported as the same graph") {
  for (const Activation act : {Activation::kReLU, Activation::kSiLU, Activation::kHardswish,
                               Activation::kLeakyReLU, Activation::kMish, Activation::kSigmoid}) {
    CAPTURE(name_of(act));
    const Graph g = mixed_graph(act, false);
    const Graph back = there_and_back(g, options(OnnxPrecision::kFloat32));
    check_same_structure(g, back);
    CHECK(test::relative_difference(run_on_noise(back, Precision::kFloat32),
                                    run_on_noise(g, Precision::kFloat32)) <= 1e-6);
  }
}

TEST_CASE("gains behind activations become multiplications in ONNX, and gains again") {
  for (const OnnxPrecision precision : {OnnxPrecision::kFloat32, OnnxPrecision::kInt8}) {
    const bool int8 = precision == OnnxPrecision::kInt8;
    const Graph g = test::with_gains(mixed_graph(Activation::kHardswish, int8), 5);
    const Graph back = there_and_back(g, options(precision));
    check_same_structure(g, back);
    int gains = 0;
    for (size_t i = 0; i < g.nodes.size(); ++i) {
      const Node &a = g.nodes[i], &b = back.nodes[i];
      CAPTURE(a.name);
      REQUIRE(a.gain.defined() == b.gain.defined());
      CHECK(a.weight_scale == b.weight_scale);
      if (!a.gain.defined()) continue;
      ++gains;
      CHECK(test::max_difference(a.gain, b.gain) == 0);
    }
    CHECK(gains > 0);
    const Precision p = int8 ? Precision::kInt8 : Precision::kFloat32;
    const Graph rounded = int8 ? with_biases_of(g, back) : g;
    CHECK(test::relative_difference(run_on_noise(back, p), run_on_noise(rounded, p)) <=
          (int8 ? 0 : 1e-6));
  }
  const Graph g = test::with_gains(mixed_graph(Activation::kHardswish, false), 5);
  const Tensor exact = run_on_noise(g, Precision::kFloat32);
  const Graph plain = mixed_graph(Activation::kHardswish, false);
  CHECK(test::relative_difference(run_on_noise(plain, Precision::kFloat32), exact) > 1e-2);
}

TEST_CASE("fp16, dynamic batch and NMS do not change the imported graph") {
  const Graph g = mixed_graph(Activation::kSiLU, false);
  const Tensor exact = run_on_noise(g, Precision::kFloat32);
  const Graph half = there_and_back(g, options(OnnxPrecision::kFloat16));
  check_same_structure(g, half, 1e-3);
  const double apart = test::relative_difference(run_on_noise(half, Precision::kFloat32), exact);
  CHECK(apart > 0);
  CHECK(apart < 2e-3);
  for (const bool multi_label : {false, true}) {
    OnnxOptions o = options(OnnxPrecision::kFloat32);
    o.dynamic_batch = true;
    o.nms = OnnxNms{0.3f, 0.5f, 20, multi_label};
    const Graph back = there_and_back(g, o);
    check_same_structure(g, back);
    CHECK(test::max_difference(run_on_noise(back, Precision::kFloat32), exact) <= 1e-4);
  }
}

TEST_CASE("QDQ models are imported with the same ranges and integers") {
  for (const Activation act : {Activation::kReLU, Activation::kSiLU})
    for (const OnnxTarget target : {OnnxTarget::kOpenVino, OnnxTarget::kOnnxRuntime}) {
      CAPTURE(name_of(act), name_of(target));
      Graph g = mixed_graph(act, true);
      for (Node& n : g.nodes)  // a node kept in float
        if (n.name == "c3.block.conv") n.precision = Precision::kFloat32;
      OnnxOptions o = options(OnnxPrecision::kInt8);
      o.target = target;
      const Graph back = there_and_back(g, o);
      check_same_structure(g, back);
      CHECK(back.quantized());
      for (size_t t = 0; t < g.tensors.size(); ++t) {
        CAPTURE(g.tensors[t].name);
        CHECK(back.tensors[t].has_range() == g.tensors[t].has_range());
        CHECK(back.tensors[t].scale() == g.tensors[t].scale());
        CHECK(back.tensors[t].is_unsigned == g.tensors[t].is_unsigned);
      }
      for (size_t i = 0; i < g.nodes.size(); ++i) {
        const Node &a = g.nodes[i], &b = back.nodes[i];
        if (!a.has_weight()) continue;
        CAPTURE(a.name);
        if (a.precision == Precision::kFloat32) {
          CHECK(b.weight_scale.empty());
          CHECK(test::max_difference(a.weight, b.weight) == 0);
          continue;
        }
        CHECK(a.weight_scale == b.weight_scale);
        CHECK(quantize_weight(a.weight, a.weight_scale) ==
              quantize_weight(b.weight, b.weight_scale));
        for (int64_t c = 0; c < a.bias.numel(); ++c) {
          const float step = g.tensors[static_cast<size_t>(a.inputs[0])].scale() *
                             a.weight_scale[static_cast<size_t>(c)];
          CHECK(std::abs(a.bias.f32()[c] - b.bias.f32()[c]) <= 0.51f * step);
        }
      }
      CHECK(test::max_difference(run_on_noise(back, Precision::kInt8),
                                 run_on_noise(with_biases_of(g, back), Precision::kInt8)) == 0);
    }
}

TEST_CASE("a channel with weights close to 0 keeps its bias in 32 bits") {
  Graph g = mixed_graph(Activation::kReLU, false);
  for (Node& n : g.nodes)
    if (n.name == "linear") {
      for (int64_t i = 0; i < 16; ++i) n.weight.f32()[3 * 16 + i] = i == 2 ? 1e-6f : 0.0f;
      n.bias.f32()[3] = 2.0f;
    }
  g = test::with_ranges(g, test::random_images({1, 32, 32, 3}, 34));
  const Graph back = there_and_back(g, options(OnnxPrecision::kInt8));
  CHECK(back.find_node("linear")->bias.f32()[3] == Approx(2.0f).epsilon(1e-5));
  CHECK(test::relative_difference(run_on_noise(back, Precision::kInt8),
                                  run_on_noise(g, Precision::kInt8)) < 0.03);
}

TEST_CASE("impossible exports are refused") {
  Graph g = mixed_graph(Activation::kReLU, false);
  g.source = "g";
  const auto error = [](const Graph& graph, const OnnxOptions& o) {
    return test::error_of([&] { to_onnx(graph, o); });
  };
  CHECK(error(g, options(OnnxPrecision::kInt8)) ==
        "g: has no activation ranges; run sextant quantize");
  OnnxOptions o = options(OnnxPrecision::kFloat32);
  o.height = 30;
  CHECK(error(g, o) == "g: image size 32x30 must be a multiple of 4");
  o = options(OnnxPrecision::kFloat32);
  o.nms = OnnxNms{0.3f, 0.5f, 0, false};
  CHECK(error(g, o) == "onnx: max_det is 0, must be at least 1");
  const test::MixedNet net(Activation::kReLU, 31);
  CHECK(error(test::traced(net, {1, 32, 32, 3}), options(OnnxPrecision::kFloat32))
            .ends_with("has not been fused; call fuse() first"));
  Graph large = g;
  for (Node& n : large.nodes)
    if (n.name == "linear") n.weight.f32()[5] = 7e4f;
  CHECK(error(large, options(OnnxPrecision::kFloat16)) ==
        "onnx: 'linear.weight' holds 70000, too large for fp16");
}

TEST_CASE("metadata is not trusted: the end is what its nodes compute") {
  const Graph g = mixed_graph(Activation::kReLU, false);
  for (const bool nms : {false, true}) {
    CAPTURE(nms);
    OnnxOptions o = options(OnnxPrecision::kFloat32);
    if (nms) o.nms = OnnxNms{0.3f, 0.5f, 20, false};
    const std::string good = to_onnx(g, o);
    const auto check_same = [&](const std::string& from, const std::string& to) {
      CAPTURE(from, to);
      const Graph found = from_onnx(replaced(good, from, to), "m.onnx");
      REQUIRE(found.decode() != nullptr);
      CHECK(found.decode()->as<DecodeAttributes>() == g.decode()->as<DecodeAttributes>());
      CHECK(test::max_difference(run_on_noise(found, Precision::kFloat32),
                                 run_on_noise(g, Precision::kFloat32)) == 0);
    };
    check_same("\"num_classes\":3", "\"num_classes\":4");
    check_same("\"grid_cell_offset\":0.5", "\"grid_cell_offset\":0.7");
    check_same("\"strides\":[2,4]", "\"strides\":[4,2]");
    check_same("\"inputs\":[\"detect.cls_preds.0\"", "\"inputs\":[\"detect.reg_preds.0\"");
    check_same("\"half\":false", "\"half\":true ");
    if (!nms) check_same("sextant-onnx", "sextant-none");  // no metadata
    const auto error = [&](const std::string& from, const std::string& to) {
      return test::error_of([&] { from_onnx(replaced(good, from, to), "m.onnx"); });
    };
    CHECK(error("\"version\":1", "\"version\":2") == "m.onnx: its metadata is of a later version");
    // nodes that compute something else
    const std::string points =
        replaced(good, bytes_of({0.5f, 0.5f, 1.5f}), bytes_of({0.5f, 0.4f, 1.5f}));
    CHECK(test::error_of([&] { from_onnx(points, "m.onnx"); }) ==
          "m.onnx: its last nodes are not the decoding that its metadata describes");
  }
}

TEST_CASE("any broken ONNX file gives one line") {
  const std::string good =
      to_onnx(mixed_graph(Activation::kSiLU, true), options(OnnxPrecision::kInt8));
  int refused = 0;
  const auto attempt = [&](const std::string& bytes) {
    try {
      from_onnx(bytes, "m.onnx");
    } catch (const Error& e) {
      const std::string message = e.what();
      CAPTURE(message);
      CHECK(message.starts_with("m.onnx"));
      CHECK(message.find('\n') == std::string::npos);
      ++refused;
    }
  };
  CHECK(test::error_of([] { from_onnx("", "m.onnx"); }) == "m.onnx: is not an ONNX model");
  for (size_t n = 0; n < good.size(); n += good.size() / 60 + 1) attempt(good.substr(0, n));
  CHECK(refused >= 55);  // cut inside the constants that nothing reads, a file may still be whole
  Rng rng(35);
  const size_t nodes = good.find("images");
  for (int i = 0; i < 500; ++i) {
    std::string bytes = good;
    // half of them among the nodes, where the structure is
    const size_t range = i % 2 ? bytes.size() : std::min<size_t>(bytes.size(), nodes + 12000);
    for (int k = 0; k <= i % 3; ++k)
      bytes[static_cast<size_t>(rng.uniform(0, static_cast<double>(range)))] =
          static_cast<char>(rng.uniform(0, 256));
    attempt(bytes);
  }
  CHECK(refused >= 200);
}
