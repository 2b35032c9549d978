// SPDX-License-Identifier: Apache-2.0
// ONNX models of other tools (tests/fixtures/onnx/make.py), compared with ONNX Runtime.
#include <cmath>

#include "core/file.h"
#include "deploy/engine/engine.h"
#include "deploy/engine/simulate.h"
#include "deploy/graph/file.h"
#include "deploy/graph/ranges.h"
#include "deploy/networks.h"
#include "deploy/onnx/export.h"
#include "deploy/onnx/import.h"
#include "deploy/run_engine.h"

using namespace sextant;
using namespace sextant::deploy;
using test::run_engine;

namespace {

std::filesystem::path model_path(const std::string& name) {
  return std::filesystem::path(SEXTANT_SOURCE_DIR) / "tests/fixtures/onnx" / (name + ".onnx");
}

struct Case {
  Graph graph;
  Tensor images;
  Tensor output;  // of ONNX Runtime, in our layout
};

Case load(const std::string& name, int64_t image_size = 0) {
  const SafeTensors file = load_safetensors(model_path(name).replace_extension(".safetensors"));
  Case c{load_onnx(model_path(name), {image_size, {}}), file.at("images"), file.at("output")};
  const Shape s = c.output.shape();
  c.output = s.rank() == 4 ? nchw_to_nhwc(c.output) : c.output.reshape({s[0], 1, 1, s[1]});
  return c;
}

int count(const Graph& g, NodeKind kind) {
  return static_cast<int>(std::ranges::count(g.nodes, kind, &Node::kind));
}

std::string error_with(const std::string& name, const std::string& from, const std::string& to) {
  std::string bytes = read_text(model_path(name));
  for (size_t at = 0; (at = bytes.find(from, at)) != std::string::npos; at += to.size())
    bytes.replace(at, from.size(), to);
  return test::error_of([&] { from_onnx(bytes, "m.onnx"); });
}

}  // namespace

TEST_CASE("ordinary networks compute what ONNX Runtime computes") {
  for (const std::string name : {"residual", "mobile", "plain", "pieces"}) {
    CAPTURE(name);
    const Case c = load(name);
    CHECK(test::relative_difference(run_engine(c.graph, c.images), c.output) < 2e-5);
    CHECK(!c.graph.quantized());
    // and through our own files and back out
    const test::TemporaryFolder folder;
    save_deploy(folder / "g.safetensors", c.graph);
    CHECK(test::relative_difference(run_engine(load_deploy(folder / "g.safetensors"), c.images),
                                    c.output) < 2e-5);
    OnnxOptions options;
    options.height = options.width = 16;
    const Graph again = from_onnx(to_onnx(c.graph, options), "again.onnx");
    CHECK(again.nodes.size() == c.graph.nodes.size());
    CHECK(test::relative_difference(run_engine(again, c.images), c.output) < 2e-5);
  }
}

TEST_CASE("imported graphs are fused and carry the names of their parameters") {
  const Graph g = load("residual").graph;
  REQUIRE(g.find_node("layer2.0.conv2"));
  const Node& conv = *g.find_node("layer1.0.conv2");
  CHECK(conv.as<ConvAttributes>().residual_place() == ResidualPlace::kBeforeActivation);
  CHECK(conv.activation() == Activation::kReLU);
  CHECK(count(g, NodeKind::kBatchNorm) == 0);
  CHECK(count(g, NodeKind::kActivation) == 0);
  CHECK(count(g, NodeKind::kAdd) == 0);
  CHECK(count(g, NodeKind::kGlobalAvgPool) == 1);
  CHECK(count(g, NodeKind::kSoftmax) == 1);
  CHECK(g.image_size == 16);
  // the linear layer behind a 4x4 map reads it whole
  CHECK(load("plain").graph.find_node("classifier.0")->weight.shape() == Shape{10, 4, 4, 6});
}

TEST_CASE("imported networks run in int8: engine and simulation agree") {
  for (const std::string name : {"residual", "mobile", "plain"}) {
    CAPTURE(name);
    const Case c = load(name);
    const Graph g = test::with_ranges(c.graph, c.images);
    CHECK(count_requantizations(g) == 0);
    const EngineConfig config{c.images.dim(0), 16, 16, Precision::kInt8};
    Engine engine(g, config);
    Engine simulation = make_simulation(g, config);
    for (const StepDifference& d : compare_engines(engine, simulation, c.images)) {
      CAPTURE(d.tensor);
      CHECK(d.max_steps <= 1);
      CHECK(d.max_float < 1e-2);
    }
    CHECK(test::relative_difference(engine.run(c.images), c.output) < 0.1);
  }
}

TEST_CASE("ranges of foreign Q/DQ pairs become ranges of the graph") {
  const Case c = load("qdq");
  const Graph& g = c.graph;
  CHECK(g.quantized());
  CHECK(count_requantizations(g) == 0);
  CHECK(g.tensors[static_cast<size_t>(g.input)].amax == 1.0f);
  // one range for a concat: the widest, 135 steps of 6 / 255
  const auto concat = std::ranges::find(g.nodes, NodeKind::kConcat, &Node::kind);
  const TensorInfo& joined = g.tensors[static_cast<size_t>(concat->output)];
  CHECK(joined.amax == Approx(135.0 * 6 / 255));
  CHECK_FALSE(joined.is_unsigned);
  int in_float = 0;
  for (const Node& n : g.nodes) {
    if (!n.has_weight()) continue;
    in_float += n.precision == Precision::kFloat32;
    CHECK((n.precision == Precision::kFloat32) == n.weight_scale.empty());
  }
  CHECK(in_float == 1);
  CHECK(test::relative_difference(run_engine(g, c.images, Precision::kInt8), c.output) < 0.05);
}

TEST_CASE("unsupported operators are named") {
  const std::string kept = error_with("residual", "MaxPool", "LogPool");
  CHECK(kept.starts_with("m.onnx: unsupported operators: LogPool (node '/"));
  const std::string both = error_with("mobile", "ReduceMean", "ReduceMaxi");
  CHECK(both.find("ReduceMaxi (node '/ReduceMaxi_") != std::string::npos);
  CHECK(error_with("residual", "layer1.0.conv1.weight", "layer1.0.conv1.wieght") ==
        "no error");  // both places: only a name
  CHECK(error_with("plain", "classifier.0.bias", "classifier.0.bais") == "no error");
  CHECK(error_with("mobile", "count_include_pad", "count_exclude_pad")
            .find("attribute 'count_exclude_pad' is not supported") != std::string::npos);
  CHECK(error_with("pieces", "half_pixel", "align_corn").find("align_corn") != std::string::npos);
  CHECK(test::error_of([] {
          load_onnx(model_path("residual"), {32, {}});
        }).ends_with("takes images of 16 pixels, not 32"));
  CHECK(test::error_of([] { load_onnx("nowhere.onnx"); }).find("nowhere.onnx") == 0);
}

// tests/fixtures/onnx/make_torch.py: both exporters of PyTorch, against PyTorch.

namespace {

struct TorchCase {
  Graph graph;
  Tensor images, output;
};

TorchCase load_torch(const std::string& name, bool maps = false) {
  const SafeTensors file = load_safetensors(model_path(name).replace_extension(".safetensors"));
  OnnxImportOptions options;
  options.head_maps = maps;
  return {load_onnx(model_path(name), options), file.at("images"), file.at("output")};
}

}  // namespace

TEST_CASE("PyTorch: a classifier of either exporter, weights inside or beside") {
  for (const std::string name :
       {"torch_classifier", "torch_classifier_unfolded", "torch_classifier_dynamo"}) {
    CAPTURE(name);
    const TorchCase c = load_torch(name);
    const Tensor y = run_engine(c.graph, c.images);
    CHECK(test::relative_difference(y, c.output.reshape({1, 1, 1, 5})) < 2e-5);
  }
}

TEST_CASE("PyTorch: the official decoding is recognised by what it computes") {
  for (const std::string name :
       {"torch_detector", "torch_detector_unfolded", "torch_detector_dynamo", "torch_detector_bins",
        "torch_detector_bins_dynamo", "torch_detector_nms"}) {
    CAPTURE(name);
    const TorchCase c = load_torch(name);
    REQUIRE(c.graph.decode() != nullptr);
    const auto& decode = c.graph.decode()->as<DecodeAttributes>();
    CHECK(decode.num_classes == 3);
    CHECK(decode.reg_max ==
          (name.find("_bins") != std::string::npos || name == "torch_detector_nms" ? 4 : 0));
    CHECK(decode.strides == std::vector<int64_t>{4, 8});
    CHECK_FALSE(decode.objectness);
    CHECK(test::relative_difference(run_engine(c.graph, c.images), c.output) < 2e-5);
    // It is a detector like ours from here on.
    const Graph g = test::with_ranges(c.graph, c.images);
    CHECK(test::relative_difference(run_engine(g, c.images, Precision::kInt8), c.output) < 0.1);
  }
}

TEST_CASE("PyTorch: maps of a head as outputs, decoded on request") {
  CHECK(test::error_of([] {
          load_onnx(model_path("torch_detector_maps"));
        }).ends_with("if they are the maps of a YOLOv6 head, import them as maps"));
  const TorchCase c = load_torch("torch_detector_maps", true);
  CHECK(c.graph.decode()->as<DecodeAttributes>().reg_max == 4);
  CHECK(test::relative_difference(run_engine(c.graph, c.images), c.output) < 2e-5);
  OnnxImportOptions options;
  options.head_maps = true;
  options.class_names = {"a", "b"};
  CHECK(test::error_of([&] {
          load_onnx(model_path("torch_detector_maps"), options);
        }).ends_with("are not class logits of 2 classes and distances of each level"));
  options.class_names = {"a", "b", "c"};
  CHECK(load_onnx(model_path("torch_detector_maps"), options).class_names.size() == 3);
  CHECK(test::error_of([&] {
          load_onnx(model_path("torch_classifier"), {0, {}, true});
        }).find("is not a map") != std::string::npos);
}

TEST_CASE("a different decoding is not mistaken for ours") {
  // Other strides, another offset, another activation: each is a number or a name in the file.
  const std::string file = read_text(model_path("torch_detector_dynamo"));
  const auto error = [&](const std::string& from, const std::string& to) {
    std::string bytes = file;
    REQUIRE(from.size() == to.size());
    size_t at = bytes.find(from), count = 0;
    for (; at != std::string::npos; at = bytes.find(from, at + to.size()), ++count)
      bytes.replace(at, from.size(), to);
    REQUIRE(count > 0);
    return test::error_of([&] { from_onnx(bytes, "m.onnx"); });
  };
  const auto floats = [](std::initializer_list<float> values) {
    std::string s;
    for (const float v : values) s.append(reinterpret_cast<const char*>(&v), sizeof v);
    return s;
  };
  CHECK(test::error_of([&] { from_onnx(file, "m.onnx"); }) == "no error");
  const std::string unknown = "m.onnx: operator '";
  CHECK(error(floats({4, 4, 4}), floats({4, 5, 4})).starts_with(unknown));  // a stride
  CHECK(error(floats({0.5f, 0.5f, 1.5f}), floats({0.5f, 0.4f, 1.5f}))
            .starts_with(unknown));  // a point
  CHECK(
      error(floats({1, 1, 1, 1}), floats({1, 1, 0.5f, 1})).starts_with(unknown));  // an objectness
}

TEST_CASE("weights in other files are read from the model's folder only") {
  const test::TemporaryFolder folder;
  const auto model = folder / "m.onnx", data = folder / "torch_classifier_dynamo.data";
  const std::string bytes = read_text(model_path("torch_classifier_dynamo"));
  const auto copy = [&](const std::string& text) { write_atomically(model, text); };
  const auto error = [&] { return test::error_of([&] { load_onnx(model); }); };
  copy(bytes);
  CHECK(error().ends_with("torch_classifier_dynamo.data, which is not a file"));
  std::filesystem::copy_file(model_path("torch_classifier_dynamo").replace_extension(".data"),
                             data);
  CHECK(error() == "no error");
  const std::string name = "torch_classifier_dynamo.data";
  for (const std::string other :
       {"../assifier_dynamo.data/x/yz", "/etc/hostname////////////////"}) {
    std::string changed = bytes;
    for (size_t at; (at = changed.find(name)) != std::string::npos;)
      changed.replace(at, name.size(), other.substr(0, name.size()));
    copy(changed);
    CAPTURE(other);
    CHECK(error().find("which is not in the model's folder") != std::string::npos);
  }
  copy(bytes);
  std::filesystem::resize_file(data, 100);
  CHECK(error().find("which has 100") != std::string::npos);
  CHECK(test::error_of([&] {
          from_onnx(bytes, "m.onnx");
        }).find("its data is in another file, which cannot be read here") != std::string::npos);
}
