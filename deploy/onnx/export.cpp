#include "deploy/onnx/export.h"

#include <onnx/checker.h>
#include <onnx/shape_inference/implementation.h>

#include <cmath>

#include "core/file.h"
#include "deploy/graph/ranges.h"
#include "deploy/onnx/tail.h"
#include "deploy/onnx/weights.h"
#include "deploy/onnx/writer.h"

namespace sextant::deploy {
namespace {

using onnx::TensorProto;

float activated(Activation a, float x) {
  float y = 0;
  kernels::dispatch_activation(a,
                               [&](auto tag) { y = kernels::activate<decltype(tag)::value>(x); });
  return y;
}

// How far the input of an activation reaches whose output reaches to `amax`. At least 5: the
// activations go to zero or to the identity on the negative side, and have to be followed that far.
float reach_before(Activation a, float amax) {
  float low = 0;
  float high = std::max(8.0f, amax + 4.0f);
  if (activated(a, high) < amax) return 8.0f;  // a sigmoid
  for (int i = 0; i < 40; ++i) {
    const float middle = (low + high) / 2;
    (activated(a, middle) < amax ? low : high) = middle;
  }
  return std::max(high, 5.0f);
}

class Exporter {
 public:
  Exporter(const Graph& graph, const OnnxOptions& options)
      : graph_(graph), options_(options), writer_(*model_.mutable_graph()) {}

  onnx::ModelProto build() {
    const std::string source = graph_.source.empty() ? "the model" : graph_.source;
    validate(graph_);
    for (const Node& node : graph_.nodes)
      check(node.kind != NodeKind::kBatchNorm, "{}: node '{}' is not fused; fuse() first", source,
            node.name);
    check(!int8() || graph_.quantized(), "{}: has no activation ranges; run sextant quantize",
          source);
    check(!int8() || count_requantizations(graph_) == 0,
          "{}: joins tensors of different ranges; run sextant quantize", source);
    const bool decodes = graph_.nodes.back().kind == NodeKind::kDecode;
    check(!options_.nms || decodes, "{}: has no decode node, so nothing to suppress", source);
    shapes_ = infer_shapes(graph_, options_.batch, options_.height, options_.width);
    values_.resize(graph_.tensors.size());
    describe();
    writer_.value(true, "images", TensorProto::FLOAT,
                  {batch(), 3, options_.height, options_.width});
    for (const Node& node : graph_.nodes) emit(node);
    if (!decodes) plain_output();
    return std::move(model_);
  }

 private:
  bool int8() const { return options_.precision == OnnxPrecision::kInt8; }
  bool half() const { return options_.precision == OnnxPrecision::kFloat16; }
  int64_t batch() const { return options_.dynamic_batch ? -1 : options_.batch; }
  const TensorInfo& info(int t) const { return graph_.tensors[static_cast<size_t>(t)]; }
  const Shape& shape(int t) const { return shapes_[static_cast<size_t>(t)]; }
  bool quantized(int t) const { return int8() && info(t).has_range(); }
  const std::string& value(int t) const { return values_[static_cast<size_t>(t)]; }
  const std::string& in(const Node& node, size_t i = 0) const { return value(node.inputs[i]); }

  void describe() {
    model_.set_ir_version(kOnnxIrVersion);
    model_.set_producer_name("sextant");
    onnx::OperatorSetIdProto& opset = *model_.add_opset_import();
    opset.set_domain("");
    opset.set_version(kOnnxOpset);
    model_.mutable_graph()->set_name("sextant");
  }

  void metadata(const OnnxTail* tail) {
    Json j = {{"format", "sextant-onnx"},
              {"version", 1},
              {"class_names", graph_.class_names},
              {"image_size", graph_.image_size},
              {"gray_border", graph_.gray_border}};
    if (tail) j["tail"] = tail_to_json(*tail);
    onnx::StringStringEntryProto& entry = *model_.add_metadata_props();
    entry.set_key("sextant");
    entry.set_value(j.dump());
  }

  // ---- constants

  std::string constant(const std::string& name, const Tensor& t, const std::vector<int64_t>& dims) {
    if (!half()) return writer_.floats(name, dims, t.span<float>());
    for (const float v : t.span<float>())
      check(std::abs(v) < 65520.0f, "onnx: '{}' holds {}, too large for fp16", name, v);
    return writer_.halves(name, dims, t.span<float>());
  }

  // QuantizeLinear and DequantizeLinear around `x`; the last one's output. Signed values are u8
  // around 128: the same steps, and the type that both runtimes' integer kernels work in. (Given
  // s8, ONNX Runtime falls back to float where a convolution's input is u8, and OpenVINO rounds
  // coarser.)
  std::string pair(const std::string& name, const std::string& x, float scale, bool is_unsigned) {
    const std::string s = writer_.scalar(name + "/scale", scale);
    const std::string zero =
        writer_.zero_point(name + "/zero_point", is_unsigned ? uint8_t{0} : uint8_t{128});
    const std::string q = writer_.node("QuantizeLinear", name + "/quantize", {x, s, zero});
    return writer_.node("DequantizeLinear", name + "/dequantize", {q, s, zero});
  }

  // What readers of the node's tensor see.
  void finish(const Node& node, const std::string& x) {
    const TensorInfo& t = info(node.output);
    values_[static_cast<size_t>(node.output)] =
        quantized(node.output) ? pair(node.name + "/output", x, t.scale(), t.is_unsigned) : x;
  }

  // ---- nodes

  void emit(const Node& node) {
    const Attributes& a = node.attributes;
    const auto op = [&](const std::string& type, std::vector<std::string> inputs,
                        const std::vector<OnnxAttribute>& attributes = {}) {
      finish(node, writer_.node(type, node.name, inputs, attributes));
    };
    const auto ints = [&](const char* name, const std::vector<int64_t>& v) {
      return writer_.int64s(node.name + "/" + name, v);
    };
    switch (node.kind) {
      case NodeKind::kInput:
        return finish(node, half() ? writer_.node("Cast", "images/half", {"images"},
                                                  {{"to", int64_t{TensorProto::FLOAT16}}})
                                   : "images");
      case NodeKind::kConv:
      case NodeKind::kDeconv:
        return weighted(node);
      case NodeKind::kMaxPool:
        return op("MaxPool", {in(node)},
                  {{"kernel_shape", std::vector<int64_t>(2, a.kernel)},
                   {"pads", std::vector<int64_t>(4, a.padding)},
                   {"strides", std::vector<int64_t>(2, a.stride)}});
      case NodeKind::kUpsample: {
        const float s = static_cast<float>(a.scale);
        const float scales[4] = {1, 1, s, s};
        return op("Resize", {in(node), "", writer_.floats(node.name + "/scales", {4}, scales)},
                  {{"coordinate_transformation_mode", std::string("asymmetric")},
                   {"mode", std::string("nearest")},
                   {"nearest_mode", std::string("floor")}});
      }
      case NodeKind::kConcat: {
        std::vector<std::string> inputs;
        for (size_t i = 0; i < node.inputs.size(); ++i) inputs.push_back(in(node, i));
        return op("Concat", inputs, {{"axis", int64_t{1}}});
      }
      case NodeKind::kAdd:
        return finish(node, sum(node, node.name, in(node), in(node, 1)));
      case NodeKind::kActivation:
        return finish(node, activation(node.name, in(node), a.activation));
      case NodeKind::kSlice:
        return op("Slice",
                  {in(node), ints("begin", {a.begin}), ints("end", {a.end}), ints("axis", {1})});
      case NodeKind::kGlobalAvgPool:
        return op("GlobalAveragePool", {in(node)});
      case NodeKind::kSoftmax:
        return op("Softmax", {in(node)}, {{"axis", int64_t{1}}});
      case NodeKind::kDecode:
        return decode(node);
      case NodeKind::kBatchNorm:
        return;
    }
  }

  // A convolution, then its residual and activation in their order. `integer` as the engine decides
  // it (deploy/engine/program_builder.cpp).
  void weighted(const Node& node) {
    const Attributes& a = node.attributes;
    const bool integer = quantized(node.inputs[0]) && node.precision == Precision::kInt8 &&
                         !node.weight_scale.empty() &&
                         (!a.residual || quantized(node.inputs[1]) == quantized(node.output));
    std::string x = convolution(node, integer);
    const bool rounds = integer && options_.for_onnxruntime && quantized(node.output);
    const TensorInfo& out = info(node.output);
    // |conv| where the sum with the residual stays within the output's range
    const float reach = a.residual ? out.amax * (1.0f + std::abs(a.residual_scale)) : out.amax;
    if (a.residual && a.residual_before_activation) {
      if (rounds) x = pair(node.name + "/conv", x, reach / 127.0f, false);
      x = sum(node, node.name + "/add", x, in(node, 1));
    }
    if (a.activation != Activation::kIdentity) {
      if (rounds && !a.residual && a.activation == Activation::kReLU && !out.is_unsigned)
        // loses nothing, since the output is rounded alike
        x = pair(node.name + "/conv", x, out.scale(), false);
      else if (rounds && !a.residual_before_activation && a.activation != Activation::kReLU)
        x = pair(node.name + "/conv", x, reach_before(a.activation, reach) / 127.0f, false);
      x = activation(node.name + "/act", x, a.activation);
    }
    if (a.residual && !a.residual_before_activation) {
      const bool positive = a.activation == Activation::kReLU;
      if (rounds)
        x = pair(node.name + "/branch", x, reach / (positive ? 255.0f : 127.0f), positive);
      x = sum(node, node.name + "/add", x, in(node, 1));
    }
    finish(node, x);
  }

  std::string convolution(const Node& node, bool integer) {
    const bool deconv = node.kind == NodeKind::kDeconv;
    const std::vector<int64_t> dims = onnx_weight_dims(node);
    std::vector<std::string> inputs{in(node)};
    if (integer) {
      const IntegerWeight q = integer_weight(node, info(node.inputs[0]).scale());
      const std::string weight = node.name + ".weight";
      inputs.push_back(
          writer_.node("DequantizeLinear", weight + "/dequantize",
                       {writer_.int8s(weight, dims, q.weight), channel_scale(weight, q.scale),
                        writer_.int8s(weight + "_zero_point", {std::ssize(q.scale)},
                                      std::vector<int8_t>(q.scale.size(), 0))},
                       {{"axis", int64_t{deconv}}}));
      const std::string bias = node.name + ".bias";
      if (node.bias.defined())
        inputs.push_back(
            writer_.node("DequantizeLinear", bias + "/dequantize",
                         {writer_.int32s(bias, q.bias), channel_scale(bias, q.bias_scale)},
                         {{"axis", int64_t{0}}}));
    } else {
      inputs.push_back(constant(node.name + ".weight", onnx_weight(node), dims));
      if (node.bias.defined())
        inputs.push_back(constant(node.name + ".bias", node.bias, {node.bias.numel()}));
    }
    const std::vector<int64_t> kernel{node.weight.dim(1), node.weight.dim(2)};
    if (deconv)
      return writer_.node("ConvTranspose", node.name, inputs,
                          {{"kernel_shape", kernel}, {"strides", std::vector<int64_t>{2, 2}}});
    const Attributes& a = node.attributes;
    return writer_.node("Conv", node.name, inputs,
                        {{"group", a.groups},
                         {"kernel_shape", kernel},
                         {"pads", std::vector<int64_t>(4, a.padding)},
                         {"strides", std::vector<int64_t>(2, a.stride)}});
  }
  std::string channel_scale(const std::string& name, const std::vector<float>& scale) {
    return writer_.floats(name + "_scale", {std::ssize(scale)}, scale);
  }

  // x + residual_scale * r. The order is the one in which fuse() finds the convolution again.
  std::string sum(const Node& node, const std::string& name, const std::string& x,
                  const std::string& r) {
    const float factor = node.attributes.residual_scale;
    if (factor == 1.0f)
      return writer_.node("Add", name, node.has_weight() ? std::vector{r, x} : std::vector{x, r});
    const Tensor f = Tensor::full(Shape{1}, factor);
    const std::string scaled =
        writer_.node("Mul", name + "/scaled", {r, constant(name + "/factor", f, {})});
    return writer_.node("Add", name, {x, scaled});
  }

  std::string activation(const std::string& name, const std::string& x, Activation a) {
    switch (a) {
      case Activation::kIdentity:
        return writer_.node("Identity", name, {x});
      case Activation::kReLU:
        return writer_.node("Relu", name, {x});
      case Activation::kLeakyReLU:
        return writer_.node("LeakyRelu", name, {x}, {{"alpha", kernels::kLeakySlope}});
      case Activation::kSigmoid:
        return writer_.node("Sigmoid", name, {x});
      case Activation::kSiLU:
        return writer_.node("Mul", name, {x, writer_.node("Sigmoid", name + "/sigmoid", {x})});
      case Activation::kHardswish:
        return writer_.node("Mul", name,
                            {x, writer_.node("HardSigmoid", name + "/hard_sigmoid", {x},
                                             {{"alpha", 1.0f / 6.0f}, {"beta", 0.5f}})});
      case Activation::kMish: {
        const std::string soft = writer_.node("Softplus", name + "/softplus", {x});
        return writer_.node("Mul", name, {x, writer_.node("Tanh", name + "/tanh", {soft})});
      }
    }
    return x;
  }

  // ---- outputs

  void decode(const Node& node) {
    OnnxTail tail{node.name, {}, node.attributes, half(), options_.nms};
    std::vector<Shape> shapes;
    int64_t anchors = shape(node.output)[1];
    for (const int t : node.inputs) {
      tail.inputs.push_back(value(t));
      shapes.push_back(shape(t));
    }
    const int64_t classes = node.attributes.num_classes;
    if (options_.nms) {
      const int64_t most = options_.nms->max_det;
      const int64_t candidates = anchors * (options_.nms->multi_label ? classes : 1);
      check(most >= 1 && most <= candidates, "onnx: max_det {} must be in [1, {}]", most,
            candidates);
      check(options_.nms->conf > 0, "onnx: nms needs a conf above 0");
    }
    write_tail(writer_, tail, shapes);
    if (options_.nms) {
      const int64_t k = options_.nms->max_det;
      writer_.value(false, "num_dets", TensorProto::INT32, {batch(), 1});
      writer_.value(false, "det_boxes", TensorProto::FLOAT, {batch(), k, 4});
      writer_.value(false, "det_scores", TensorProto::FLOAT, {batch(), k});
      writer_.value(false, "det_classes", TensorProto::INT32, {batch(), k});
    } else {
      writer_.value(false, "outputs", TensorProto::FLOAT, {batch(), anchors, 5 + classes});
    }
    metadata(&tail);
  }

  void plain_output() {
    const Shape& s = shape(graph_.output);
    std::string x = value(graph_.output);
    if (half())
      x = writer_.node("Cast", "outputs/float", {x}, {{"to", int64_t{TensorProto::FLOAT}}});
    const bool pixel = s[1] == 1 && s[2] == 1;
    writer_.node(pixel ? "Flatten" : "Identity", "outputs", {x});
    writer_.value(false, "outputs", TensorProto::FLOAT,
                  pixel ? std::vector<int64_t>{batch(), s[3]}
                        : std::vector<int64_t>{batch(), s[3], s[1], s[2]});
    metadata(nullptr);
  }

  const Graph& graph_;
  const OnnxOptions& options_;
  onnx::ModelProto model_;
  OnnxWriter writer_;
  std::vector<Shape> shapes_;
  std::vector<std::string> values_;  // of each tensor, as its readers see it
};

}  // namespace

std::string to_onnx(const Graph& graph, const OnnxOptions& options) {
  onnx::ModelProto model = Exporter(graph, options).build();
  try {
    onnx::checker::check_model(model);
    onnx::ModelProto inferred = model;
    onnx::shape_inference::InferShapes(
        inferred, onnx::OpSchemaRegistry::Instance(),
        onnx::ShapeInferenceOptions(/*check_type=*/true, /*strict_mode=*/1, /*data_prop=*/true));
  } catch (const std::exception& e) {
    fail("onnx: the checker refuses the model: {}", one_line(e.what()));
  }
  return model.SerializeAsString();
}

void save_onnx(const std::filesystem::path& path, const Graph& graph, const OnnxOptions& options) {
  write_atomically(path, to_onnx(graph, options));
}

}  // namespace sextant::deploy
