// SPDX-License-Identifier: Apache-2.0
#include "deploy/onnx/importer.h"

#include <algorithm>
#include <cmath>

#include "deploy/onnx/weights.h"

namespace sextant::deploy {

using onnx::AttributeProto;

OnnxImporter::OnnxImporter(int64_t height, int64_t width, std::string image) {
  Node node;
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

bool OnnxImporter::knows(const onnx::NodeProto& node) {
  return (node.domain().empty() || node.domain() == "ai.onnx") && onnx_import_of(node.op_type());
}

void OnnxImporter::import_node(const onnx::NodeProto& node) {
  now_ = &node;
  check(node.output_size() >= 1, "has no output");
  onnx_import_of(node.op_type())->read(*this);
}

OnnxValue* OnnxImporter::find(const std::string& name) {
  const auto found = values_.find(name);
  return found == values_.end() ? nullptr : &found->second;
}

void OnnxImporter::define(const std::string& name, OnnxValue value) {
  check(values_.emplace(name, std::move(value)).second, "'{}' is made twice", one_line(name));
}

void OnnxImporter::constant(const onnx::TensorProto& tensor) {
  OnnxValue v;
  v.constant = std::make_shared<OnnxConstant>(tensor);
  v.constant_name = one_line(tensor.name());
  check(values_.emplace(tensor.name(), std::move(v)).second, "appears twice");
}

int OnnxImporter::tensor_of(const std::string& name) {
  const auto found = values_.find(name);
  check(found != values_.end(), "'{}' is not made by any node", one_line(name));
  return plain(OnnxValue(found->second));
}

int OnnxImporter::plain(const OnnxValue& v) {
  check(!v.is_constant(), "its input must be a tensor, not a constant");
  check(v.zeros == std::array<int64_t, 4>{}, "padding is only supported before a convolution");
  check(v.pending == OnnxValue::Pending::kNone,
        "reads a HardSigmoid, Softplus or Tanh, supported only in HardSwish and Mish");
  if (v.factor == 1.0f) return v.tensor;
  const size_t channels = static_cast<size_t>(shapes[static_cast<size_t>(v.tensor)][3]);
  return affine(v.tensor, std::vector<float>(channels, v.factor), {});
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
  const NodeKind kind = node.kind();
  node.name = name.empty() ? fmt::format("{}_{}", name_of(kind), count_[kind]++) : name;
  const std::string base = node.name;
  for (int n = 2; !names_.insert(node.name).second; ++n) node.name = fmt::format("{}_{}", base, n);
  TensorInfo info;
  info.name = node.name;
  info.shape = output_shape(graph, node, shapes);
  for (const int64_t d : info.shape.dims())
    check(d >= 1 && d <= 1 << 24, "output size {} is out of bounds", info.shape.str());
  node.output = static_cast<int>(graph.tensors.size());
  shapes.push_back(info.shape);
  graph.tensors.push_back(std::move(info));
  graph.nodes.push_back(std::move(node));
  return graph.nodes.back().output;
}

int OnnxImporter::affine(int tensor, const std::vector<float>& factor,
                         const std::vector<float>& shift) {
  Node node;
  node.inputs = {tensor};
  node.precision = Precision::kFloat32;
  node.attributes = ConvAttributes{.groups = std::ssize(factor)};
  node.weight = Tensor::from({std::ssize(factor), 1, 1, 1}, factor);
  if (!shift.empty()) node.bias = Tensor::from({std::ssize(shift)}, shift);
  return add(std::move(node), one_line(now_->name()));
}

// ---- attributes and inputs of the current node

const AttributeProto* OnnxOperator::attribute(const char* name) const {
  for (const AttributeProto& a : current().attribute())
    if (a.name() == name) return &a;
  return nullptr;
}

int64_t OnnxOperator::integer(const char* name, int64_t standard, int64_t low, int64_t high) const {
  const AttributeProto* a = attribute(name);
  const int64_t v = a ? a->i() : standard;
  check(v >= low && v <= high, "{} is {}, must be in [{}, {}]", name, v, low, high);
  return v;
}

float OnnxOperator::number(const char* name, float standard) const {
  const AttributeProto* a = attribute(name);
  const float v = a ? a->f() : standard;
  check(std::isfinite(v), "{} is {}", name, v);
  return v;
}

std::string OnnxOperator::text(const char* name, const std::string& standard) const {
  const AttributeProto* a = attribute(name);
  return a ? one_line(a->s()) : standard;
}

std::vector<int64_t> OnnxOperator::integers(const char* name, std::vector<int64_t> standard,
                                            int64_t low, int64_t high) const {
  const AttributeProto* a = attribute(name);
  if (!a) return standard;
  check(a->ints_size() <= 64, "{} has {} values, at most 64 are supported", name, a->ints_size());
  const std::vector<int64_t> values(a->ints().begin(), a->ints().end());
  check(standard.empty() || values.size() == standard.size(),
        "{} has {} values, expected {}; only 2-D layers are supported", name, values.size(),
        standard.size());
  for (const int64_t v : values)
    check(v >= low && v <= high, "{} holds {}, must be in [{}, {}]", name, v, low, high);
  return values;
}

bool OnnxOperator::has_input(int i) const {
  return i < current().input_size() && !current().input(i).empty();
}

const OnnxValue& OnnxOperator::input(int i) const {
  check(has_input(i), "input {} is missing", i);
  const OnnxValue* v = importer_.find(current().input(i));
  check(v != nullptr, "reads '{}', which no node before it makes", one_line(current().input(i)));
  return *v;
}

const OnnxConstant& OnnxOperator::constant_input(int i) const {
  const OnnxValue& v = input(i);
  check(v.constant != nullptr, "input '{}' must be a constant", one_line(current().input(i)));
  return *v.constant;
}

std::vector<int64_t> OnnxOperator::integers_or_input(const char* name, int i) const {
  constexpr int64_t kAny = int64_t{1} << 62;
  if (attribute(name)) return integers(name, {}, -kAny, kAny);
  if (!has_input(i)) return {};
  const OnnxConstant& c = constant_input(i);
  check(c.numel() <= 64, "{} has {} values, at most 64 are supported", name, c.numel());
  std::vector<int64_t> values = c.ints();
  for (const int64_t v : values)
    check(v >= -kAny && v <= INT64_MAX, "{} holds {}, which is out of bounds", name, v);
  return values;
}

OnnxWindow OnnxOperator::window(const Shape& x, int64_t kernel_h, int64_t kernel_w) const {
  OnnxWindow g;
  const std::vector<int64_t> strides = integers("strides", {1, 1}, 1, 64);
  const std::vector<int64_t> dilations = integers("dilations", {1, 1}, 1, 64);
  const std::vector<int64_t> pads = integers("pads", {0, 0, 0, 0}, 0, 64);
  check(strides[0] == strides[1], "strides {} and {} differ", strides[0], strides[1]);
  g.stride = strides[0];
  g.dilation = {dilations[0], dilations[1]};
  std::copy(pads.begin(), pads.end(), g.pads.begin());
  const std::string automatic = text("auto_pad", "NOTSET");
  if (automatic == "NOTSET") return g;
  g.pads = {};
  if (automatic == "VALID") return g;
  check(automatic == "SAME_UPPER" || automatic == "SAME_LOWER", "auto_pad '{}' is not supported",
        automatic);
  for (size_t d = 0; d < 2; ++d) {
    const int64_t size = x[static_cast<int>(d) + 1];
    const int64_t reach = ((d == 0 ? kernel_h : kernel_w) - 1) * g.dilation[d] + 1;
    const int64_t all =
        std::max<int64_t>(((size + g.stride - 1) / g.stride - 1) * g.stride + reach - size, 0);
    const int64_t less = all / 2;
    g.pads[d] = automatic == "SAME_UPPER" ? less : all - less;
    g.pads[d + 2] = all - g.pads[d];
  }
  return g;
}

void OnnxOperator::result(int tensor, bool flat) {
  OnnxValue v;
  v.tensor = tensor;
  v.flat = flat;
  result(0, std::move(v));
}

std::string OnnxOperator::name_of_node() const { return one_line(current().name()); }

}  // namespace sextant::deploy
