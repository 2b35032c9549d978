// SPDX-License-Identifier: Apache-2.0
#include "deploy/onnx/importer.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/text.h"
#include "deploy/graph/node_rules.h"
#include "deploy/onnx/evaluate.h"

namespace sextant::deploy {

using onnx::AttributeProto;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The message with shapes [N,H,W,C] and [O,kh,kw,I] as ONNX orders them.
std::string in_onnx_order(const std::string& message) {
  std::string out;
  for (size_t at = 0; at < message.size();) {
    const size_t end = message[at] == '[' ? message.find(']', at) : std::string::npos;
    std::vector<std::string> sides(1);
    for (size_t i = at + 1; end != std::string::npos && i < end; ++i) {
      if (message[i] == ',')
        sides.emplace_back();
      else if (message[i] != ' ')
        sides.back() += message[i];
    }
    const bool shape =
        sides.size() == 4 && std::ranges::all_of(sides, [](const std::string& s) {
          return !s.empty() && s.find_first_not_of("0123456789") == std::string::npos;
        });
    if (!shape) {
      out += message[at++];
      continue;
    }
    out += fmt::format("[{},{},{},{}]", sides[0], sides[3], sides[1], sides[2]);
    at = end + 1;
  }
  return out;
}

}  // namespace

OnnxImporter::OnnxImporter(int64_t height, int64_t width, std::string image) {
  Node node;
  node.name = "images";
  node.output = 0;
  names_.insert(node.name);
  TensorInfo info;
  info.name = node.name;
  info.shape = {1, height, width, 3};
  shapes.push_back(info.shape);
  never_negative_.push_back(true);
  graph.tensors.push_back(info);
  graph.nodes.push_back(node);
  graph.input = 0;
  OnnxValue v;
  v.tensor = 0;
  values_[std::move(image)] = v;
}

bool OnnxImporter::knows(const onnx::NodeProto& node, bool of_constants) {
  return (node.domain().empty() || node.domain() == "ai.onnx") &&
         (onnx_import_of(node.op_type()) || (of_constants && OnnxEvaluator::knows(node.op_type())));
}

void OnnxImporter::import_node(const onnx::NodeProto& node) {
  now_ = &node;
  reads_ = {};
  check(node.output_size() >= 1, "has no output");
  if (fold(node)) return;
  const OnnxImport* known = onnx_import_of(node.op_type());
  check(known != nullptr, "is only supported for constants");
  known->read(*this);
  reads_.check_all_of(node);
}

// Computes a node whose inputs are all constants; false for another, or an operator that the
// evaluator does not have.
bool OnnxImporter::fold(const onnx::NodeProto& node) {
  if (node.input_size() == 0 || !OnnxEvaluator::knows(node.op_type())) return false;
  OnnxEvaluator evaluator(opset);
  std::vector<int> types;
  std::string name;
  const auto constant = [&](const std::string& i) {
    const OnnxValue* v = find(i);
    return i.empty() || (v && v->is_constant());
  };
  if (!std::ranges::all_of(node.input(), constant)) return false;
  if (node.op_type() == "Identity") {  // also of quantized weights, which stay so
    define(node.output(0), *find(node.input(0)));
    return true;
  }
  for (const std::string& i : node.input()) {
    if (i.empty()) continue;
    const OnnxValue& v = *find(i);
    if (types.empty()) name = v.constant_name;
    types.push_back(v.constant ? v.constant->type() : int{onnx::TensorProto::FLOAT});
    if (evaluator.find(i)) continue;
    bool whole_steps = false;
    if (v.constant)
      evaluator.set(i, array_of(*v.constant));
    else
      evaluator.set(i, array_of(v.weight->values.dims(), dequantized(*v.weight, whole_steps)));
  }
  evaluator.run(node);
  const int type = OnnxEvaluator::result_type(node, types);
  for (const std::string& output : node.output()) {
    if (output.empty()) continue;
    const OnnxArray* made = evaluator.find(output);
    check(made != nullptr, "output '{}' is not supported", excerpt(output));
    values_to_fold_ -= std::ssize(made->values);
    check(values_to_fold_ >= 0, "computes too many constants");
    OnnxValue v;
    v.constant = std::make_shared<OnnxConstant>(OnnxConstant::of(made->values, made->dims, type));
    v.constant_name = name;
    define(output, std::move(v));
  }
  return true;
}

OnnxValue* OnnxImporter::find(const std::string& name) {
  const auto found = values_.find(name);
  return found == values_.end() ? nullptr : &found->second;
}

void OnnxImporter::define(const std::string& name, OnnxValue value) {
  check(values_.emplace(name, std::move(value)).second, "'{}' is made twice", excerpt(name));
}

void OnnxImporter::constant(const onnx::TensorProto& tensor) {
  OnnxValue v;
  v.constant = std::make_shared<OnnxConstant>(tensor);
  v.constant_name = excerpt(tensor.name());
  values_to_fold_ += 4 * v.constant->numel();
  check(values_.emplace(tensor.name(), std::move(v)).second, "appears twice");
}

int OnnxImporter::tensor_of(const std::string& name) {
  const auto found = values_.find(name);
  check(found != values_.end(), "'{}' is not made by any node", excerpt(name));
  return plain(OnnxValue(found->second));
}

int OnnxImporter::plain(const OnnxValue& v) {
  check(!v.is_constant(), "its input must be a tensor, not a constant");
  check(!v.steps, "reads the integers of a QuantizeLinear; only DequantizeLinear may");
  check(v.order.empty(),
        "reads channels in two dimensions; only a Transpose that exchanges them and "
        "a Reshape back to [N,C,H,W] may");
  check(v.zeros == std::array<int64_t, 4>{}, "padding is only supported before a convolution");
  int tensor = v.tensor;
  if (v.pending == OnnxValue::Pending::kHardSigmoid) {
    const auto [made, fresh] = hard_sigmoids_.try_emplace(v.tensor, -1);
    if (fresh) made->second = activate(v.tensor, Activation::kHardSigmoid);
    tensor = made->second;
  } else {
    check(v.pending == OnnxValue::Pending::kNone,
          "reads a Softplus or Tanh, supported only in Mish");
  }
  if (v.factor == 1.0f) return tensor;
  const size_t channels = static_cast<size_t>(shapes[static_cast<size_t>(tensor)][3]);
  return affine(tensor, std::vector<float>(channels, v.factor), {});
}

const Shape* OnnxImporter::map_shape(const std::string& name) const {
  const auto found = values_.find(name);
  if (found == values_.end()) return nullptr;
  const OnnxValue& v = found->second;
  const bool whole = v.tensor >= 0 && !v.flat && v.factor == 1.0f &&
                     v.zeros == std::array<int64_t, 4>{} && !v.steps && v.order.empty() &&
                     v.pending == OnnxValue::Pending::kNone;
  return whole ? &shapes[static_cast<size_t>(v.tensor)] : nullptr;
}

int OnnxImporter::add(Node node, const std::string& name) {
  const NodeKind kind = node.kind();
  node.name = name.empty() ? fmt::format("{}_{}", name_of(kind), count_[kind]++) : name;
  const std::string base = node.name;
  for (int n = 2; !names_.insert(node.name).second; ++n) node.name = fmt::format("{}_{}", base, n);
  TensorInfo info;
  info.name = node.name;
  try {
    info.shape = output_shape(graph, node, shapes);
    for (const int64_t d : info.shape.dims())
      check(d >= 1 && d <= 1 << 24, "output size {} is out of bounds", info.shape.str());
  } catch (const Error& e) {
    fail("{}", in_onnx_order(e.what()));
  }
  std::vector<bool> inputs;
  for (const int t : node.inputs) inputs.push_back(never_negative(t));
  never_negative_.push_back(rules_of(node).never_negative(node, inputs));
  node.output = static_cast<int>(graph.tensors.size());
  shapes.push_back(info.shape);
  graph.tensors.push_back(std::move(info));
  graph.nodes.push_back(std::move(node));
  return graph.nodes.back().output;
}

int OnnxImporter::activate(int tensor, Activation activation) {
  Node node;
  node.inputs = {tensor};
  node.attributes = ActivationAttributes{activation};
  return add(std::move(node), excerpt(now_->name()));
}

// min(relu(x), high), as (high / 6) relu6((6 / high) x): exact near zero.
int OnnxImporter::cut(int tensor, float high) {
  if (high == kInfinity) return activate(tensor, Activation::kReLU);
  const size_t channels = static_cast<size_t>(shapes[static_cast<size_t>(tensor)][3]);
  const bool scaled = high != 6.0f;
  if (scaled) tensor = affine(tensor, std::vector<float>(channels, 6.0f / high), {});
  tensor = activate(tensor, Activation::kReLU6);
  return scaled ? affine(tensor, std::vector<float>(channels, high / 6.0f), {}) : tensor;
}

int OnnxImporter::clip(int tensor, float low, float high) {
  check(low <= high, "its bounds are {} to {}", low, high);
  if (low == -kInfinity && high == kInfinity) return tensor;
  const size_t channels = static_cast<size_t>(shapes[static_cast<size_t>(tensor)][3]);
  const auto moved = [&](int t, float factor, float shift) {
    if (factor == 1.0f && shift == 0.0f) return t;
    return affine(t, std::vector<float>(channels, factor), std::vector<float>(channels, shift));
  };
  check(high - low > 0.0f && (high == kInfinity || low == -kInfinity || high - low > 1e-20f),
        "its bounds {} and {} are too close", low, high);
  if (low >= 0.0f) return moved(cut(moved(tensor, 1.0f, -low), high - low), 1.0f, low);
  if (high <= 0.0f) return moved(cut(moved(tensor, -1.0f, high), high - low), -1.0f, high);
  // both parts keep the precision of values near zero
  Node sum;
  sum.attributes = AddAttributes{.residual_scale = -1.0f};
  sum.inputs = {cut(tensor, high), cut(moved(tensor, -1.0f, 0.0f), -low)};
  return add(std::move(sum), excerpt(now_->name()));
}

int OnnxImporter::affine(int tensor, const std::vector<float>& factor,
                         const std::vector<float>& shift) {
  Node node;
  node.inputs = {tensor};
  node.precision = Precision::kFloat32;
  node.attributes = ConvAttributes{.groups = std::ssize(factor)};
  node.weight = Tensor::from({std::ssize(factor), 1, 1, 1}, factor);
  if (!shift.empty()) node.bias = Tensor::from({std::ssize(shift)}, shift);
  return add(std::move(node), excerpt(now_->name()));
}

// ---- attributes and inputs of the current node

const AttributeProto* OnnxOperator::attribute(const char* name) const {
  importer_.note_attribute(name);
  for (const AttributeProto& a : current().attribute())
    if (a.name() == name) return &a;
  return nullptr;
}

namespace {

void check_type(const AttributeProto* a, AttributeProto::AttributeType type) {
  check(!a || a->type() == type || a->type() == AttributeProto::UNDEFINED,
        "attribute '{}' has the wrong type", a ? excerpt(a->name()) : "");
  check(!a || a->ref_attr_name().empty(), "attribute '{}' refers to that of a function",
        a ? excerpt(a->name()) : "");
}

}  // namespace

int64_t OnnxOperator::integer(const char* name, int64_t standard, int64_t low, int64_t high) const {
  const AttributeProto* a = attribute(name);
  check_type(a, AttributeProto::INT);
  const int64_t v = a ? a->i() : standard;
  check(v >= low && v <= high, "{} is {}, must be in [{}, {}]", name, v, low, high);
  return v;
}

float OnnxOperator::number(const char* name, float standard) const {
  const AttributeProto* a = attribute(name);
  check_type(a, AttributeProto::FLOAT);
  const float v = a ? a->f() : standard;
  check(std::isfinite(v), "{} is {}", name, v);
  return v;
}

std::string OnnxOperator::text(const char* name, const std::string& standard) const {
  const AttributeProto* a = attribute(name);
  check_type(a, AttributeProto::STRING);
  return a ? excerpt(a->s()) : standard;
}

std::vector<int64_t> OnnxOperator::integers(const char* name, std::vector<int64_t> standard,
                                            int64_t low, int64_t high) const {
  const AttributeProto* a = attribute(name);
  if (!a) return standard;
  check_type(a, AttributeProto::INTS);
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
  importer_.note_input(i);
  const OnnxValue* v = importer_.find(current().input(i));
  check(v != nullptr, "reads '{}', which no node before it makes", excerpt(current().input(i)));
  return *v;
}

int OnnxOperator::image(int i) {
  check(!input(i).flat, "its input must be an image");
  return plain(i);
}

const OnnxConstant& OnnxOperator::constant_input(int i) const {
  const OnnxValue& v = input(i);
  check(v.constant != nullptr, "input '{}' must be a constant", excerpt(current().input(i)));
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

float OnnxOperator::bound(int i, float standard) const {
  return has_input(i) ? constant_input(i).bound() : standard;
}

OnnxWindow OnnxOperator::window(const Shape& x, int64_t kernel_h, int64_t kernel_w,
                                const std::array<int64_t, 4>& padded) const {
  OnnxWindow g;
  const std::vector<int64_t> strides = integers("strides", {1, 1}, 1, 64);
  const std::vector<int64_t> dilations = integers("dilations", {1, 1}, 1, 64);
  const std::vector<int64_t> pads = integers("pads", {0, 0, 0, 0}, 0, 64);
  g.stride = {strides[0], strides[1]};
  g.dilation = {dilations[0], dilations[1]};
  std::copy(pads.begin(), pads.end(), g.pads.begin());
  const std::string automatic = text("auto_pad", "NOTSET");
  if (automatic == "NOTSET") return g;
  g.pads = {};
  if (automatic == "VALID") return g;
  check(automatic == "SAME_UPPER" || automatic == "SAME_LOWER", "auto_pad '{}' is not supported",
        automatic);
  for (size_t d = 0; d < 2; ++d) {
    const int64_t size = x[static_cast<int>(d) + 1] + padded[d] + padded[d + 2];
    const int64_t reach = ((d == 0 ? kernel_h : kernel_w) - 1) * g.dilation[d] + 1;
    const int64_t all = std::max<int64_t>(
        ((size + g.stride[d] - 1) / g.stride[d] - 1) * g.stride[d] + reach - size, 0);
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

std::string OnnxOperator::name_of_node() const { return excerpt(current().name()); }

}  // namespace sextant::deploy
