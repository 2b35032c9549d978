// SPDX-License-Identifier: Apache-2.0
// Exports that take images of any size: anchors are computed in the ONNX graph.
#include <algorithm>

#include "deploy/networks.h"
#include "deploy/onnx/evaluate.h"
#include "deploy/onnx/export.h"
#include "deploy/onnx/import.h"
#include "deploy/run_engine.h"
#include "kernels/backend.h"
#include "layers/lite_blocks.h"

using namespace sextant;
using namespace sextant::deploy;

namespace {

Graph detector(bool objectness) {
  const test::MixedNet net(Activation::kReLU, 31, objectness);
  Graph g = fuse(test::traced(net, {1, 32, 32, 3}));
  g.image_size = 32;
  return g;
}

OnnxOptions dynamic() {
  OnnxOptions o;
  o.height = o.width = 32;
  o.dynamic_size = true;
  return o;
}

onnx::ModelProto parsed(const std::string& bytes) {
  onnx::ModelProto m;
  REQUIRE(m.ParseFromString(bytes));
  return m;
}

std::vector<std::string> symbols(const onnx::ValueInfoProto& v) {
  std::vector<std::string> all;
  for (const auto& d : v.type().tensor_type().shape().dim()) all.push_back(d.dim_param());
  return all;
}

// What the end of the model gives for random maps of images of height x width, and what the kernel
// gives for the same.
void check_decoding(const onnx::ModelProto& model, const Graph& g, int64_t height, int64_t width) {
  CAPTURE(height, width);
  const Node& decode = *g.decode();
  const auto& a = decode.as<DecodeAttributes>();
  const std::vector<Shape> shapes = infer_shapes(g, 2, height, width);
  OnnxEvaluator evaluator(13);
  for (const auto& t : model.graph().initializer())
    if (t.name().starts_with(decode.name + "/")) evaluator.set(t);
  kernels::HeadMaps p;
  p.batch = 2;
  p.classes = a.num_classes;
  p.reg_max = a.reg_max;
  p.cell_offset = a.grid_cell_offset;
  p.levels = static_cast<int>(a.strides.size());
  std::vector<Tensor> maps;
  Rng rng(9);
  for (const int t : decode.inputs) {
    const Shape& s = shapes[static_cast<size_t>(t)];
    OnnxArray array = zeros_array({s[0], s[3], s[1], s[2]});
    maps.emplace_back(s);
    for (int64_t i = 0; i < s.numel(); ++i) {
      const int64_t c = i % s[3], pixel = i / s[3] % (s[1] * s[2]), n = i / (s[1] * s[2] * s[3]);
      maps.back().f32()[i] = static_cast<float>(rng.uniform(-2, 3));
      array.values[static_cast<size_t>((n * s[3] + c) * s[1] * s[2] + pixel)] =
          maps.back().f32()[i];
    }
    evaluator.set(g.tensors[static_cast<size_t>(t)].name, std::move(array));
  }
  for (size_t l = 0; l < a.strides.size(); ++l) {
    const size_t first = a.maps_per_level() * l;
    p.level[l].cls = maps[first].f32();
    p.level[l].reg = maps[first + 1].f32();
    if (a.objectness) p.level[l].obj = maps[first + 2].f32();
    p.level[l].height = maps[first].dim(1);
    p.level[l].width = maps[first].dim(2);
    p.level[l].stride = static_cast<float>(a.strides[l]);
  }
  std::vector<float> rows(static_cast<size_t>(p.batch * p.anchors() * (5 + p.classes)));
  kernels::backend(Device::kCpu).decode({p, rows.data()});
  for (const onnx::NodeProto& n : model.graph().node())
    if (n.name().starts_with(decode.name + "/")) evaluator.run(n);
  const OnnxArray* found = evaluator.find("outputs");
  REQUIRE(found != nullptr);
  REQUIRE(found->dims == std::vector<int64_t>{2, p.anchors(), 5 + p.classes});
  double worst = 0;
  for (size_t i = 0; i < rows.size(); ++i)
    worst = std::max(worst, std::abs(found->values[i] - rows[i]) / (1 + std::abs(rows[i])));
  CHECK(worst < 1e-5);
}

}  // namespace

TEST_CASE("with a dynamic size, the exported graph decodes maps of every size") {
  for (const bool objectness : {false, true}) {
    const Graph g = detector(objectness);
    const onnx::ModelProto model = parsed(to_onnx(g, dynamic()));
    const std::vector<std::string> image{"", "", "height", "width"}, rows{"", "anchors", ""};
    CHECK(symbols(model.graph().input(0)) == image);
    CHECK(symbols(model.graph().output(0)) == rows);
    check_decoding(model, g, 32, 32);
    check_decoding(model, g, 64, 40);
    for (const auto& t : model.graph().initializer())  // no anchors of one size
      if (t.name().starts_with(g.decode()->name + "/")) CHECK(t.raw_data().size() <= 128);
  }
}

TEST_CASE("models of dynamic size come back as the same graph, at any size") {
  const Graph g = detector(false);
  const Tensor exact = test::run_on_noise(g, Precision::kFloat32);
  OnnxOptions o = dynamic();
  for (const bool half : {false, true})
    for (const bool nms : {false, true}) {
      CAPTURE(half, nms);
      o.precision = half ? OnnxPrecision::kFloat16 : OnnxPrecision::kFloat32;
      if (nms) o.nms = OnnxNms{0.3f, 0.5f, 20, true};
      const std::string bytes = to_onnx(g, o);
      for (const int64_t size : {32, 48}) {
        OnnxImportOptions as;
        as.image_size = size;
        const Graph back = from_onnx(bytes, "m.onnx", as);
        CHECK(back.nodes.size() == g.nodes.size());
        CHECK(test::relative_difference(test::run_on_noise(back, Precision::kFloat32), exact) <
              (half ? 2e-3 : 1e-6));
      }
    }
  onnx::ModelProto plain = parsed(to_onnx(g, dynamic()));  // recognized by what it computes
  plain.clear_metadata_props();
  OnnxImportOptions as;
  as.image_size = 48;
  const Graph back = from_onnx(plain.SerializeAsString(), "m.onnx", as);
  REQUIRE(back.decode() != nullptr);
  CHECK(back.decode()->as<DecodeAttributes>() == g.decode()->as<DecodeAttributes>());
}

TEST_CASE("max_det is capped by the number of boxes, which a dynamic size does not know") {
  const Graph g = detector(false);
  OnnxOptions o = dynamic();
  o.nms = OnnxNms{0.3f, 0.5f, 1000, false};
  const auto dims = [&] {
    return parsed(to_onnx(g, o)).graph().output(1).type().tensor_type().shape();
  };
  CHECK(dims().dim(1).dim_param() == "detections");
  o.dynamic_size = false;
  CHECK(dims().dim(1).dim_value() == 16 * 16 + 8 * 8);
  o.nms->multi_label = true;
  CHECK(dims().dim(1).dim_value() == 3 * (16 * 16 + 8 * 8));
  o.nms->max_det = 7;
  CHECK(dims().dim(1).dim_value() == 7);
}

TEST_CASE("a layer as large as its map has no dynamic size") {
  Graph g;
  const auto add = [&](const std::string& name, Attributes attributes, std::vector<int> inputs) {
    Node node;
    node.name = name;
    node.attributes = std::move(attributes);
    node.inputs = std::move(inputs);
    node.output = static_cast<int>(g.tensors.size());
    g.tensors.emplace_back().name = name;
    g.tensors.back().shape = {1, 32, 32, 3};
    g.nodes.push_back(std::move(node));
    return g.nodes.back().output;
  };
  g.input = add("images", InputAttributes{}, {});
  g.output = add("last", MaxPoolAttributes{}, {g.input});
  const auto ends_in = [&](Attributes attributes) {
    g.nodes[1].attributes = std::move(attributes);
    g.tensors[1].shape = output_shape(g, g.nodes[1], {g.tensors[0].shape, {}});
  };
  ends_in(MaxPoolAttributes{.kernel = 32});
  CHECK(test::error_of([&] { to_onnx(g, dynamic()); }) ==
        "the model: --dynamic-size: has a layer as large as the map that it reads for images of "
        "32x32");
  ends_in(GlobalAvgPoolAttributes{});
  const std::vector<std::string> row{"", ""};
  CHECK(symbols(parsed(to_onnx(g, dynamic())).graph().output(0)) == row);
  ends_in(MaxPoolAttributes{.kernel = 2, .stride = 2});
  const std::vector<std::string> map{"", "", "output_height", "output_width"};
  CHECK(symbols(parsed(to_onnx(g, dynamic())).graph().output(0)) == map);
}

namespace {

class ShuffledNet : public Module {
 public:
  ShuffledNet() {
    Rng rng(3);
    first_ = register_module("first", std::make_shared<Conv2d>(3, 8, 1, ConvParams{}, true, rng));
    last_ = register_module("last", std::make_shared<Conv2d>(8, 5, 1, ConvParams{}, true, rng));
  }
  Variable predict(const Variable& x) const {
    return last_->forward(shuffle_halves(first_->forward(x)));
  }

 private:
  std::shared_ptr<Conv2d> first_, last_;
};

int64_t operators(const onnx::ModelProto& model, const std::string& type) {
  return std::ranges::count_if(model.graph().node(),
                               [&](const onnx::NodeProto& n) { return n.op_type() == type; });
}

}  // namespace

TEST_CASE("a channel shuffle is exported as one where the image's size is known") {
  const Graph g = fuse(test::traced(ShuffledNet(), {1, 4, 6, 3}));
  const Tensor exact = test::run_on_noise(g, Precision::kFloat32);
  for (const bool batch : {false, true})
    for (const bool size : {false, true}) {
      CAPTURE(batch, size);
      OnnxOptions o;
      o.height = 4;
      o.width = 6;
      o.dynamic_batch = batch;
      o.dynamic_size = size;
      const std::string bytes = to_onnx(g, o);
      CHECK(operators(parsed(bytes), "Gather") == (size ? 1 : 0));
      CHECK(operators(parsed(bytes), "Transpose") == (size ? 0 : 1));
      if (size) continue;  // such a model is only imported with a size
      const Graph back = from_onnx(bytes, "m.onnx");
      REQUIRE(back.nodes.size() == g.nodes.size());
      for (size_t i = 0; i < g.nodes.size(); ++i)
        CHECK(back.nodes[i].attributes == g.nodes[i].attributes);
      CHECK(test::max_difference(test::run_on_noise(back, Precision::kFloat32), exact) == 0);
    }
}
