#include "deploy/onnx/importer.h"

#include <algorithm>
#include <cmath>

#include "deploy/onnx/weights.h"

namespace sextant::deploy {

using onnx::AttributeProto;

OnnxImporter::OnnxImporter(int64_t height, int64_t width, std::string image) {
  Node node;
  node.kind = NodeKind::kInput;
  node.name = "images";
  node.output = 0;
  names_.insert(node.name);
  TensorInfo info;
  info.name = node.name;
  info.shape = {1, height, width, 3};
  shapes.push_back(info.shape);
  graph.tensors.push_back(info);
  graph.nodes.push_back(node);
  graph.input = 0;
  OnnxValue v;
  v.tensor = 0;
  values_[std::move(image)] = v;
}

const std::map<std::string, OnnxImporter::Handler>& OnnxImporter::handlers() {
  using I = OnnxImporter;
  static const std::map<std::string, Handler> table = {
      {"Add", &I::add_or_subtract},
      {"AveragePool", &I::average_pool},
      {"BatchNormalization", &I::batch_norm},
      {"Cast", &I::identity},
      {"Clip", &I::clip},
      {"Concat", &I::concat},
      {"Constant", &I::constant_node},
      {"Conv", &I::conv},
      {"ConvTranspose", &I::conv_transpose},
      {"DequantizeLinear", &I::dequantize},
      {"Div", &I::divide},
      {"Dropout", &I::identity},
      {"Flatten", &I::flatten},
      {"Gather", &I::gather},
      {"Gemm", &I::gemm},
      {"GlobalAveragePool", &I::global_average_pool},
      {"HardSigmoid", &I::pending_function},
      {"HardSwish", &I::hard_swish},
      {"Identity", &I::identity},
      {"LeakyRelu", &I::leaky_relu},
      {"MatMul", &I::matmul},
      {"MaxPool", &I::max_pool},
      {"Mish", &I::mish},
      {"Mul", &I::multiply},
      {"Pad", &I::pad},
      {"QuantizeLinear", &I::quantize},
      {"ReduceMean", &I::reduce_mean},
      {"Relu", &I::relu},
      {"Reshape", &I::reshape},
      {"Resize", &I::resize},
      {"Shape", &I::shape_of},
      {"Sigmoid", &I::sigmoid},
      {"Slice", &I::slice},
      {"Softmax", &I::softmax},
      {"Softplus", &I::pending_function},
      {"Split", &I::split},
      {"Squeeze", &I::squeeze},
      {"Sub", &I::add_or_subtract},
      {"Tanh", &I::pending_function},
      {"Unsqueeze", &I::unsqueeze},
      {"Upsample", &I::resize},
  };
  return table;
}

bool OnnxImporter::knows(const onnx::NodeProto& node) {
  return (node.domain().empty() || node.domain() == "ai.onnx") &&
         handlers().contains(node.op_type());
}

void OnnxImporter::import_node(const onnx::NodeProto& node) {
  now_ = &node;
  check(node.output_size() >= 1, "it has no output");
  (this->*handlers().at(node.op_type()))();
}

// ---- what the current node says

const AttributeProto* OnnxImporter::attribute(const char* name) const {
  for (const AttributeProto& a : now_->attribute())
    if (a.name() == name) return &a;
  return nullptr;
}

int64_t OnnxImporter::integer(const char* name, int64_t standard, int64_t low, int64_t high) const {
  const AttributeProto* a = attribute(name);
  const int64_t v = a ? a->i() : standard;
  check(v >= low && v <= high, "{} is {}, must be in [{}, {}]", name, v, low, high);
  return v;
}

float OnnxImporter::number(const char* name, float standard) const {
  const AttributeProto* a = attribute(name);
  const float v = a ? a->f() : standard;
  check(std::isfinite(v), "{} is {}", name, v);
  return v;
}

std::string OnnxImporter::text(const char* name, const std::string& standard) const {
  const AttributeProto* a = attribute(name);
  return a ? one_line(a->s()) : standard;
}

std::vector<int64_t> OnnxImporter::integers(const char* name, std::vector<int64_t> standard,
                                            int64_t low, int64_t high) const {
  const AttributeProto* a = attribute(name);
  if (!a) return standard;
  check(a->ints_size() <= 64, "{} has {} values", name, a->ints_size());
  const std::vector<int64_t> values(a->ints().begin(), a->ints().end());
  check(standard.empty() || values.size() == standard.size(),
        "{} has {} values, expected {}; only 2-D layers are known", name, values.size(),
        standard.size());
  for (const int64_t v : values)
    check(v >= low && v <= high, "{} holds {}, must be in [{}, {}]", name, v, low, high);
  return values;
}

bool OnnxImporter::has_input(int i) const {
  return i < now_->input_size() && !now_->input(i).empty();
}

const OnnxValue& OnnxImporter::input(int i) const {
  check(has_input(i), "input {} is missing", i);
  const auto found = values_.find(now_->input(i));
  check(found != values_.end(), "reads '{}', which no node before it makes",
        one_line(now_->input(i)));
  return found->second;
}

const OnnxConstant& OnnxImporter::constant_input(int i) const {
  const OnnxValue& v = input(i);
  check(v.constant != nullptr, "input '{}' must be a constant", one_line(now_->input(i)));
  return *v.constant;
}

std::vector<int64_t> OnnxImporter::integers_or_input(const char* name, int i) const {
  constexpr int64_t kAny = int64_t{1} << 62;
  if (attribute(name)) return integers(name, {}, -kAny, kAny);
  if (!has_input(i)) return {};
  const OnnxConstant& c = constant_input(i);
  check(c.numel() <= 64, "{} has {} values", name, c.numel());
  std::vector<int64_t> values = c.ints();
  for (const int64_t v : values) check(v >= -kAny && v <= INT64_MAX, "{} holds {}", name, v);
  return values;
}

int OnnxImporter::plain(const OnnxValue& v) {
  check(!v.is_constant(), "reads a constant where it needs a tensor");
  check(v.zeros == std::array<int64_t, 4>{}, "padding is only known before a convolution");
  check(v.pending == OnnxValue::Pending::kNone,
        "reads a HardSigmoid, Softplus or Tanh, known only as a part of HardSwish and Mish");
  if (v.factor == 1.0f) return v.tensor;
  const size_t channels = static_cast<size_t>(shape(v.tensor)[3]);
  return affine(v.tensor, std::vector<float>(channels, v.factor), {});
}

int OnnxImporter::plain(int i) { return plain(OnnxValue(input(i))); }

void OnnxImporter::result(OnnxValue value) {
  check(values_.emplace(now_->output(0), std::move(value)).second, "'{}' is made twice",
        one_line(now_->output(0)));
}

void OnnxImporter::result(int tensor, bool flat) {
  OnnxValue v;
  v.tensor = tensor;
  v.flat = flat;
  result(std::move(v));
}

std::string OnnxImporter::name_of_node() const { return one_line(now_->name()); }

// ---- building

void OnnxImporter::constant(const onnx::TensorProto& tensor) {
  OnnxValue v;
  v.constant = std::make_shared<OnnxConstant>(tensor);
  v.constant_name = one_line(tensor.name());
  check(values_.emplace(tensor.name(), std::move(v)).second, "is there twice");
}

int OnnxImporter::tensor_of(const std::string& name) {
  const auto found = values_.find(name);
  check(found != values_.end(), "no node makes '{}'", one_line(name));
  return plain(OnnxValue(found->second));
}

const Shape* OnnxImporter::map_shape(const std::string& name) const {
  const auto found = values_.find(name);
  if (found == values_.end()) return nullptr;
  const OnnxValue& v = found->second;
  const bool whole = v.tensor >= 0 && !v.flat && v.factor == 1.0f &&
                     v.zeros == std::array<int64_t, 4>{} && v.pending == OnnxValue::Pending::kNone;
  return whole ? &shapes[static_cast<size_t>(v.tensor)] : nullptr;
}

int OnnxImporter::add(Node node, const std::string& name) {
  node.name = name.empty() ? fmt::format("{}_{}", name_of(node.kind), count_[node.kind]++) : name;
  const std::string base = node.name;
  for (int n = 2; !names_.insert(node.name).second; ++n) node.name = fmt::format("{}_{}", base, n);
  TensorInfo info;
  info.name = node.name;
  info.shape = output_shape(graph, node, shapes);
  for (const int64_t d : info.shape.dims())
    check(d >= 1 && d <= 1 << 24, "absurd output size {}", info.shape.str());
  node.output = static_cast<int>(graph.tensors.size());
  shapes.push_back(info.shape);
  graph.tensors.push_back(std::move(info));
  graph.nodes.push_back(std::move(node));
  return graph.nodes.back().output;
}

// factor * x + shift per channel: a depthwise 1x1 convolution, which fuse() folds where it can.
int OnnxImporter::affine(int tensor, const std::vector<float>& factor,
                         const std::vector<float>& shift) {
  Node node;
  node.kind = NodeKind::kConv;
  node.inputs = {tensor};
  node.precision = Precision::kFloat32;
  node.attributes.groups = std::ssize(factor);
  node.weight = Tensor::from({std::ssize(factor), 1, 1, 1}, factor);
  if (!shift.empty()) node.bias = Tensor::from({std::ssize(shift)}, shift);
  return add(std::move(node), name_of_node());
}

int OnnxImporter::activate(int tensor, Activation a) {
  Node node;
  node.kind = NodeKind::kActivation;
  node.inputs = {tensor};
  node.attributes.activation = a;
  return add(std::move(node), name_of_node());
}

}  // namespace sextant::deploy
