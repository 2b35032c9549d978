// SPDX-License-Identifier: Apache-2.0
// A head with objectness after training: graph, engines, file, ONNX.
#include <cmath>

#include "core/config.h"
#include "deploy/engine/engine.h"
#include "deploy/engine/simulate.h"
#include "deploy/graph/file.h"
#include "deploy/graph/info.h"
#include "deploy/networks.h"
#include "deploy/onnx/export.h"
#include "deploy/onnx/import.h"

using namespace sextant;
using namespace sextant::deploy;
using test::MixedNet;

namespace {

Graph traced_graph(Activation act) {
  Graph g = fuse(test::traced(MixedNet(act, 41, true), {1, 32, 32, 3}));
  g.class_names = {"a", "b", "c"};
  return g;
}

const Tensor& noise() {
  static const Tensor t = test::random_images({1, 32, 32, 3}, 42);
  return t;
}

Tensor rows_of(const Graph& g, Precision precision) {
  return Engine(g, {1, 32, 32, precision}).run(noise());
}

// The fifth number of every row.
std::vector<float> objectness_of(const Tensor& rows) {
  std::vector<float> out;
  for (int64_t i = 0; i < rows.dim(0) * rows.dim(1); ++i)
    out.push_back(rows.f32()[i * rows.dim(2) + 4]);
  return out;
}

}  // namespace

TEST_CASE("objectness: the graph decodes three maps per level like the model") {
  const MixedNet net(Activation::kReLU, 41, true);
  const Graph g = traced_graph(Activation::kReLU);
  const Node& decode = g.nodes.back();
  CHECK(decode.as<DecodeAttributes>().objectness);
  REQUIRE(decode.inputs.size() == 6);
  const char* expected[] = {"detect.cls_preds.0", "detect.reg_preds.0", "detect.obj_preds.0",
                            "detect.cls_preds.1", "detect.reg_preds.1", "detect.obj_preds.1"};
  for (size_t i = 0; i < 6; ++i)
    CHECK(g.tensors[static_cast<size_t>(decode.inputs[i])].name == expected[i]);
  const NoGrad no_grad;
  const Tensor want = net.predict(Variable(test::as_float_images(noise()))).data();
  const Tensor rows = rows_of(g, Precision::kFloat32);
  CHECK(test::relative_difference(rows, want) < 1e-5);
  const std::vector<float> o = objectness_of(rows);
  CHECK(*std::ranges::max_element(o) > *std::ranges::min_element(o));
  CHECK(*std::ranges::max_element(o) < 1);
  CHECK(format_summary(summarize(g, 32, 32)).find("decode objectness") != std::string::npos);
}

TEST_CASE("objectness: int8 engine, simulation and integers only agree") {
  const Activation act = GENERATE(Activation::kReLU, Activation::kSiLU);
  const Graph g = test::with_ranges(traced_graph(act), noise());
  for (const int t : g.nodes.back().inputs)
    CHECK_FALSE(g.tensors[static_cast<size_t>(t)].has_range());
  const EngineConfig config{1, 32, 32, Precision::kInt8};
  Engine engine(g, config);
  Engine simulation = make_simulation(g, config);
  for (const StepDifference& d : compare_engines(engine, simulation, noise())) {
    CAPTURE(d.tensor);
    CHECK(d.max_steps <= 1);
    CHECK(d.max_float < (act == Activation::kReLU ? 1e-6 : 0.02));
  }
  Engine integer(g, {1, 32, 32, Precision::kInteger});
  for (const StepDifference& d : compare_layers(integer, engine, noise())) {
    CAPTURE(d.tensor, d.max_float);
    CHECK(d.max_steps <= 1);
    CHECK(d.max_float < 2e-3);
  }
  const std::vector<float> a = objectness_of(rows_of(g, Precision::kInt8)),
                           b = objectness_of(rows_of(traced_graph(act), Precision::kFloat32)),
                           c = objectness_of(rows_of(g, Precision::kInteger));
  double apart = 0, apart_integer = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    apart = std::max(apart, std::abs(double{a[i]} - b[i]));
    apart_integer = std::max(apart_integer, std::abs(double{a[i]} - c[i]));
  }
  CHECK(apart > 0);
  CHECK(apart < 0.2);
  CHECK(apart_integer < 0.1);
}

TEST_CASE("objectness: the deploy file has version 2, and version 1 without objectness") {
  const test::TemporaryFolder folder;
  const auto path = folder / "m.safetensors";
  const Graph g = test::with_ranges(traced_graph(Activation::kReLU), noise());
  save_deploy(path, g);
  const auto meta = [&] { return Json::parse(load_safetensors(path).meta("sextant")); };
  CHECK(meta().at("version") == 2);
  const Graph back = load_deploy(path);
  CHECK(back.nodes.back().as<DecodeAttributes>().objectness);
  CHECK(test::max_difference(rows_of(back, Precision::kInt8), rows_of(g, Precision::kInt8)) == 0);

  SafeTensors file = load_safetensors(path);
  Json later = meta();
  later["version"] = 4;
  file.metadata["sextant"] = later.dump();
  CHECK(test::error_of([&] {
          load_deploy(file);
        }).ends_with("version 4 is not supported, only versions up to 3"));
  later["version"] = 2;
  later["nodes"].back()["inputs"].erase(5);
  file.metadata["sextant"] = later.dump();
  CHECK(test::error_of([&] {
          load_deploy(file);
        }).ends_with("5 inputs for 2 strides, expected 3 per level"));

  save_deploy(path, fuse(test::traced(MixedNet(Activation::kReLU, 41), {1, 32, 32, 3})));
  CHECK(meta().at("version") == 1);
  CHECK_FALSE(meta().at("nodes").back().contains("objectness"));
  CHECK_FALSE(load_deploy(path).nodes.back().as<DecodeAttributes>().objectness);
}

TEST_CASE("objectness: maps of the wrong shape are refused") {
  Graph g = traced_graph(Activation::kReLU);
  std::swap(g.nodes.back().inputs[0], g.nodes.back().inputs[2]);
  CHECK(test::error_of([&] { validate(g); }).find("do not fit 3 classes") != std::string::npos);
  g = traced_graph(Activation::kReLU);
  g.nodes.back().inputs[2] = g.nodes.back().inputs[0];
  CHECK(test::error_of([&] {
          validate(g);
        }).ends_with("level 0: objectness [1,16,16,3] does not fit classes [1,16,16,3]"));
}

TEST_CASE("objectness: ONNX models are imported as the same graph") {
  for (const OnnxPrecision precision :
       {OnnxPrecision::kFloat32, OnnxPrecision::kFloat16, OnnxPrecision::kInt8})
    for (const bool nms : {false, true}) {
      CAPTURE(static_cast<int>(precision), nms);
      const bool int8 = precision == OnnxPrecision::kInt8;
      Graph g = traced_graph(Activation::kReLU);
      if (int8) g = test::with_ranges(g, noise());
      OnnxOptions o;
      o.precision = precision;
      o.height = o.width = 32;
      if (nms) o.nms = OnnxNms{0.01f, 0.5f, 20, true};
      const std::string bytes = to_onnx(g, o);
      CHECK(bytes.find(nms ? "decode_0/detection_scores" : "decode_0/objectness_by_anchor") !=
            std::string::npos);
      const Graph back = from_onnx(bytes, "m.onnx");
      CHECK(back.nodes.back().as<DecodeAttributes>().objectness);
      CHECK(back.nodes.size() == g.nodes.size());
      const double tolerance = precision == OnnxPrecision::kFloat16 ? 5e-3 : 1e-5;
      const Precision p = int8 ? Precision::kInt8 : Precision::kFloat32;
      if (int8)  // biases went through 32-bit integers
        for (size_t i = 0; i < g.nodes.size(); ++i) g.nodes[i].bias = back.nodes[i].bias;
      CHECK(test::relative_difference(rows_of(back, p), rows_of(g, p)) < tolerance);
      if (precision == OnnxPrecision::kFloat32 && !nms) {  // recognised without metadata
        std::string nameless = bytes;
        nameless.replace(nameless.find("sextant-onnx"), 12, "sextant-none");
        const Graph found = from_onnx(nameless, "m.onnx");
        CHECK(found.nodes.back().as<DecodeAttributes>().objectness);
        CHECK(test::max_difference(rows_of(found, p), rows_of(g, p)) == 0);
      }
      // what the metadata says has to be what the nodes do
      std::string claim = bytes;
      const std::string key = "\"objectness\":true";
      const size_t at = claim.find(key);
      REQUIRE(at != std::string::npos);
      claim.replace(at, key.size(), "\"objectness\":null");
      CHECK(test::error_of([&] { from_onnx(claim, "m.onnx"); }).find("objectness") !=
            std::string::npos);
    }
}
