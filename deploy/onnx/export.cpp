// SPDX-License-Identifier: Apache-2.0
#include "deploy/onnx/export.h"

#include <onnx/checker.h>
#include <onnx/shape_inference/implementation.h>

#include <cmath>

#include "core/file.h"
#include "core/text.h"
#include "deploy/onnx/exporter.h"
#include "deploy/onnx/nodes.h"
#include "deploy/onnx/tail.h"

namespace sextant::deploy {

using onnx::TensorProto;

onnx::ModelProto OnnxExporter::build() {
  validate(graph_);
  check_fused(graph_);
  check(!int8() || graph_.quantized(), "{}: has no activation ranges; run sextant quantize",
        graph_.label());
  check(!int8() || count_requantizations(graph_) == 0,
        "{}: combines tensors with different ranges; run sextant quantize", graph_.label());
  check(!options_.nms || graph_.decode(), "{}: has no decode node, which --nms needs",
        graph_.label());
  shapes_ = infer_shapes(graph_, options_.batch, options_.height, options_.width);
  if (options_.dynamic_size)
    larger_ = infer_shapes(graph_, options_.batch, 2 * options_.height, 2 * options_.width);
  // a pair of TensorRT's would take a bit off the image
  image_in_float_ = meant_for(OnnxTarget::kTensorRt) && no_int8_layer_reads_image();
  values_.resize(graph_.tensors.size());
  describe();
  writer_.value(true, "images", TensorProto::FLOAT,
                {batch(), 3, of_size(options_.height, "height"), of_size(options_.width, "width")});
  for (const Node& node : graph_.nodes) {
    const OnnxExport* kind = onnx_export_of(node.kind());
    check(kind != nullptr, "{}: node '{}': kind {} cannot be exported to ONNX", graph_.label(),
          node.name, name_of(node.kind()));
    kind->write(*this, node);
  }
  if (!graph_.decode()) plain_output();
  return std::move(model_);
}

bool OnnxExporter::no_int8_layer_reads_image() const {
  return std::ranges::none_of(graph_.nodes, [&](const Node& n) {
    return runs_in_int8(graph_, n) && holds_image(graph_, n.inputs[0]);
  });
}

void OnnxExporter::describe() {
  model_.set_ir_version(kOnnxIrVersion);
  model_.set_producer_name("sextant");
  onnx::OperatorSetIdProto& opset = *model_.add_opset_import();
  opset.set_domain("");
  opset.set_version(kOnnxOpset);
  model_.mutable_graph()->set_name("sextant");
}

void OnnxExporter::metadata(const OnnxTail* tail) {
  Json j = {{"format", "sextant-onnx"},
            {"version", 1},
            {"class_names", graph_.class_names},
            {"image_size", graph_.image_size},
            {"gray_border", graph_.gray_border}};
  if (graph_.image_width > 0) j["image_width"] = graph_.image_width;
  if (tail) j["tail"] = tail_to_json(*tail);
  onnx::StringStringEntryProto& entry = *model_.add_metadata_props();
  entry.set_key("sextant");
  entry.set_value(json_text(j));
}

// ---- for the exports of each kind

void OnnxExporter::finish(const Node& node, const std::string& x) {
  const TensorInfo& t = info(node.output);
  values_[static_cast<size_t>(node.output)] =
      quantized(node.output) ? pair(node.name + "/output", x, t.amax, t.is_unsigned) : x;
}

void OnnxExporter::write(const std::string& type, const Node& node,
                         const std::vector<std::string>& inputs,
                         const std::vector<OnnxAttribute>& attributes) {
  finish(node, writer_.node(type, node.name, inputs, attributes));
}

std::string OnnxExporter::constant(const std::string& name, const Tensor& t,
                                   const std::vector<int64_t>& dims) {
  if (!half()) return writer_.floats(name, dims, t.span<float>());
  for (const float v : t.span<float>())
    check(std::abs(v) < 65520.0f, "onnx: '{}' holds {}, too large for fp16", name, v);
  return writer_.halves(name, dims, t.span<float>());
}

// Signed values are exported as u8 around 128: the same steps, in the type for which both runtimes
// have integer kernels. (Given s8, ONNX Runtime falls back to float where a convolution's input is
// u8, and OpenVINO rounds coarser.) TensorRT takes nothing but s8 around 0.
std::string OnnxExporter::pair(const std::string& name, const std::string& x, float amax,
                               bool is_unsigned) {
  const bool s8 = meant_for(OnnxTarget::kTensorRt);
  const std::string s =
      writer_.scalar(name + "/scale", amax / (is_unsigned && !s8 ? 255.0f : 127.0f));
  const std::string zero_name = name + "/zero_point";
  const std::string zero =
      s8 ? writer_.int8s(zero_name, {}, {0})
         : writer_.zero_point(zero_name, is_unsigned ? uint8_t{0} : uint8_t{128});
  const std::string q = writer_.node("QuantizeLinear", name + "/quantize", {x, s, zero});
  return writer_.node("DequantizeLinear", name + "/dequantize", {q, s, zero});
}

std::string OnnxExporter::scaled(const std::string& name, const std::string& x, float factor) {
  if (factor == 1.0f) return x;
  const Tensor f = Tensor::full(Shape{1}, factor);
  return writer_.node("Mul", name + "/scaled", {x, constant(name + "/factor", f, {})});
}

std::string OnnxExporter::activation(const std::string& name, const std::string& x, Activation a) {
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
    case Activation::kReLU6:
      return writer_.node("Clip", name,
                          {x, constant(name + "/min", Tensor::full(Shape{1}, 0.0f), {}),
                           constant(name + "/max", Tensor::full(Shape{1}, 6.0f), {})});
    case Activation::kHardSigmoid:
      return writer_.node("HardSigmoid", name, {x}, {{"alpha", 1.0f / 6.0f}, {"beta", 0.5f}});
    case Activation::kMish: {
      const std::string soft = writer_.node("Softplus", name + "/softplus", {x});
      return writer_.node("Mul", name, {x, writer_.node("Tanh", name + "/tanh", {soft})});
    }
  }
  return x;
}

void OnnxExporter::plain_output() {
  const Shape& s = shape(graph_.output);
  std::string x = value(graph_.output);
  if (half()) x = writer_.node("Cast", "outputs/float", {x}, {{"to", int64_t{TensorProto::FLOAT}}});
  const auto one_pixel = [](const Shape& y) { return y[1] == 1 && y[2] == 1; };
  const bool pixel = one_pixel(s);
  check(!options_.dynamic_size || one_pixel(larger_[static_cast<size_t>(graph_.output)]) == pixel,
        "{}: --dynamic-size: has a layer as large as the map that it reads for images of {}x{}",
        graph_.label(), options_.height, options_.width);
  writer_.node(pixel ? "Flatten" : "Identity", "outputs", {x});
  writer_.value(false, "outputs", TensorProto::FLOAT,
                pixel ? std::vector<OnnxDim>{batch(), s[3]}
                      : std::vector<OnnxDim>{batch(), s[3], of_size(s[1], "output_height"),
                                             of_size(s[2], "output_width")});
  metadata(nullptr);
}

std::string to_onnx(const Graph& graph, const OnnxOptions& options) {
  onnx::ModelProto model = OnnxExporter(graph, options).build();
  try {
    onnx::checker::check_model(model);
    onnx::ModelProto inferred = model;
    onnx::shape_inference::InferShapes(
        inferred, onnx::OpSchemaRegistry::Instance(),
        onnx::ShapeInferenceOptions(/*check_type=*/true, /*strict_mode=*/1, /*data_prop=*/true));
  } catch (const std::exception& e) {
    fail("onnx: the ONNX checker rejects the model: {}", excerpt(e.what()));
  }
  return model.SerializeAsString();
}

void save_onnx(const std::filesystem::path& path, const Graph& graph, const OnnxOptions& options) {
  write_atomically(path, to_onnx(graph, options));
}

}  // namespace sextant::deploy
