// SPDX-License-Identifier: Apache-2.0
// Elementwise operators (sums, products, activations) and softmax.
#include <algorithm>
#include <cmath>
#include <limits>

#include "deploy/graph/passes.h"
#include "deploy/onnx/exporter.h"
#include "deploy/onnx/importer.h"
#include "deploy/onnx/nodes.h"

namespace sextant::deploy {
namespace {

// ---- import

using Pending = OnnxValue::Pending;

bool close(float a, float b) { return std::abs(a - b) <= 1e-5f * std::abs(b); }

class Arithmetic : public OnnxOperator {
 public:
  using OnnxOperator::OnnxOperator;
  void add_or_subtract();
  void multiply();
  void divide();
  void relu() { result(activate(plain(0), Activation::kReLU), input(0).flat); }
  void sigmoid() { result(activate(plain(0), Activation::kSigmoid), input(0).flat); }
  void hard_swish() { result(activate(plain(0), Activation::kHardswish), input(0).flat); }
  void mish() { result(activate(plain(0), Activation::kMish), input(0).flat); }
  void hard_sigmoid();
  void leaky_relu();
  void parametric_relu();
  void clip();
  void softplus_or_tanh();
  void softmax();
  void cast();
  void dropout();
  void identity() { result(OnnxValue(input(0))); }

 private:
  std::vector<float> per_channel(const OnnxConstant& c, const OnnxValue& other) const;
  std::vector<float> all_channels(int tensor, float value) const {
    return std::vector<float>(static_cast<size_t>(shape(tensor)[3]), value);
  }
  // x with all pending operations performed.
  OnnxValue settled(const OnnxValue& x) {
    OnnxValue y;
    y.tensor = plain(x);
    y.flat = x.flat;
    return y;
  }
  OnnxValue times(const OnnxValue& x, float factor);
  int three_less(int tensor) const;
  int with_slopes(int x, const std::vector<float>& slopes);
  int product(int x, int factor);
};

// The constant as one factor or summand for each channel of `other`.
std::vector<float> Arithmetic::per_channel(const OnnxConstant& c, const OnnxValue& other) const {
  const int64_t channels = shape(other.tensor)[3];
  const std::vector<int64_t>& d = c.dims();
  const size_t rank = other.flat ? 2 : 4;
  check(d.size() <= rank, "its constant has {} dimensions, the other input {}", d.size(), rank);
  if (c.numel() == 1) return std::vector<float>(static_cast<size_t>(channels), c.item());
  const size_t place = other.flat ? 1 : 3;  // position of the channels, from the end
  check(c.numel() == channels && d.size() >= place && d[d.size() - place] == channels,
        "its constant of {} values does not fit {} channels", c.numel(), channels);
  check(!other.flat || (shape(other.tensor)[1] == 1 && shape(other.tensor)[2] == 1),
        "a constant per value of a flattened image is not supported");
  return c.floats();
}

// Factors that cancel each other, as those of a hardswish written as x relu6(x + 3) / 6, leave no
// operation.
OnnxValue Arithmetic::times(const OnnxValue& x, float factor) {
  const float both = x.factor * factor;
  const bool cancels = x.factor != 1.0f && std::abs(both - 1.0f) <= 1e-6f;
  OnnxValue y = cancels || x.pending == Pending::kHardSigmoid ? x : settled(x);
  y.factor = cancels ? 1.0f : y.factor * factor;
  return y;
}

// The tensor to which a node adds 3 to make this one; -1 if none does.
int Arithmetic::three_less(int tensor) const {
  const Node& made = *std::ranges::find(importer_.graph.nodes, tensor, &Node::output);
  if (!is_channel_scale(made) || !made.bias.defined()) return -1;
  const auto all = [](const Tensor& t, float value) {
    return std::ranges::all_of(t.span<float>(), [&](float v) { return v == value; });
  };
  return all(made.weight, 1.0f) && all(made.bias, 3.0f) ? made.inputs[0] : -1;
}

// slope x + (1 - slope) relu(x), per channel.
int Arithmetic::with_slopes(int x, const std::vector<float>& slopes) {
  std::vector<float> rest(slopes.size());
  std::ranges::transform(slopes, rest.begin(), [](float s) { return 1.0f - s; });
  Node sum;
  sum.attributes = AddAttributes{};
  sum.inputs = {affine(x, slopes, {}), affine(activate(x, Activation::kReLU), rest, {})};
  return add(std::move(sum));
}

void Arithmetic::leaky_relu() {
  const float alpha = number("alpha", 0.01f);
  const int x = plain(0);
  result(close(alpha, kernels::kLeakySlope) ? activate(x, Activation::kLeakyReLU)
                                            : with_slopes(x, all_channels(x, alpha)),
         input(0).flat);
}

void Arithmetic::parametric_relu() {
  const OnnxValue x = settled(input(0));
  result(with_slopes(x.tensor, per_channel(constant_input(1), x)), x.flat);
}

void Arithmetic::clip() {
  const bool attributes = importer_.opset < 11;
  const float least = std::numeric_limits<float>::lowest();
  float low = attributes ? number("min", least) : bound(1, least);
  float high = attributes ? number("max", -least) : bound(2, -least);
  if (low <= least) low = -std::numeric_limits<float>::infinity();
  if (high >= -least) high = std::numeric_limits<float>::infinity();
  const int x = plain(0);
  if (const int before = low == 0.0f && high == 6.0f ? three_less(x) : -1; before >= 0) {
    OnnxValue v;  // may be a part of a HardSwish
    v.tensor = before;
    v.flat = input(0).flat;
    v.pending = Pending::kHardSigmoid;
    v.factor = 6.0f;
    return result(std::move(v));
  }
  result(
      low == 0.0f && high == 6.0f ? activate(x, Activation::kReLU6) : importer_.clip(x, low, high),
      input(0).flat);
}

// Stays pending, because it may be a part of a HardSwish.
void Arithmetic::hard_sigmoid() {
  check(!input(0).is_constant(), "its input must be a tensor, not a constant");
  OnnxValue v = settled(input(0));
  const float alpha = number("alpha", 0.2f), beta = number("beta", 0.5f);
  if (!close(alpha, 1.0f / 6) || !close(beta, 0.5f))
    v.tensor =
        affine(v.tensor, all_channels(v.tensor, 6 * alpha), all_channels(v.tensor, 6 * beta - 3));
  v.pending = Pending::kHardSigmoid;
  result(std::move(v));
}

// Parts of Mish.
void Arithmetic::softplus_or_tanh() {
  check(!input(0).is_constant(), "its input must be a tensor, not a constant");
  if (current().op_type() == "Tanh") {
    OnnxValue v = input(0);
    check(v.pending == Pending::kSoftplus, "is only supported as a part of Mish");
    v.pending = Pending::kTanhOfSoftplus;
    return result(std::move(v));
  }
  OnnxValue v = settled(input(0));
  v.pending = Pending::kSoftplus;
  result(std::move(v));
}

void Arithmetic::add_or_subtract() {
  const float sign = current().op_type() == "Sub" ? -1.0f : 1.0f;
  const OnnxValue a = input(0);
  const OnnxValue b = input(1);
  if (a.is_constant() || b.is_constant()) {
    const OnnxValue x = settled(a.is_constant() ? b : a);
    std::vector<float> shift = per_channel(constant_input(a.is_constant() ? 0 : 1), x);
    if (b.is_constant())
      for (float& v : shift) v *= sign;
    return result(
        affine(x.tensor, std::vector<float>(shift.size(), a.is_constant() ? sign : 1.0f), shift),
        x.flat);
  }
  Node node;
  // the factor of one side is part of the node
  OnnxValue second = b;
  OnnxValue first = a;
  if (sign == 1.0f && a.factor != 1.0f && b.factor == 1.0f) std::swap(first, second);
  node.attributes = AddAttributes{.residual_scale = second.factor * sign};
  second.factor = 1.0f;
  node.inputs = {plain(first), plain(second)};
  check(a.flat == b.flat, "adds an image and a matrix");
  result(add(std::move(node)), a.flat);
}

// The factor may be one pixel per image.
int Arithmetic::product(int x, int factor) {
  if (shape(x)[1] * shape(x)[2] < shape(factor)[1] * shape(factor)[2]) std::swap(x, factor);
  Node node;
  node.attributes = MultiplyAttributes{};
  node.inputs = {x, factor};
  return add(std::move(node));
}

void Arithmetic::multiply() {
  const OnnxValue a = input(0);
  const OnnxValue b = input(1);
  if (a.is_constant() || b.is_constant()) {
    const OnnxValue& x = a.is_constant() ? b : a;
    const OnnxConstant& constant = constant_input(a.is_constant() ? 0 : 1);
    const std::vector<float> factor = per_channel(constant, x);
    if (constant.numel() > 1) return result(affine(plain(x), factor, {}), x.flat);
    return result(times(x, factor[0]));
  }
  check(a.flat == b.flat, "multiplies an image and a matrix");
  for (const auto& [x, gate] : {std::pair(a, b), std::pair(b, a)}) {
    if (x.pending != Pending::kNone || x.factor != 1.0f) continue;
    if (gate.tensor == x.tensor && gate.pending == Pending::kHardSigmoid) {
      OnnxValue product;
      product.tensor = activate(plain(x), Activation::kHardswish);
      product.flat = x.flat;
      product.factor = gate.factor;
      return result(std::move(product));
    }
    if (gate.factor != 1.0f) continue;
    if (gate.tensor == x.tensor && gate.pending == Pending::kTanhOfSoftplus)
      return result(activate(plain(x), Activation::kMish), x.flat);
    const auto made = std::ranges::find(importer_.graph.nodes, gate.tensor, &Node::output);
    if (gate.pending == Pending::kNone && made->is<ActivationAttributes>() &&
        made->activation() == Activation::kSigmoid && made->inputs[0] == x.tensor)
      return result(activate(plain(x), Activation::kSiLU), x.flat);
  }
  const int x = plain(a);
  result(product(x, plain(b)), a.flat);
}

void Arithmetic::divide() {
  check(!input(0).is_constant(), "divides a constant by a tensor");
  const OnnxValue x = input(0);
  const OnnxConstant& c = constant_input(1);
  std::vector<float> factor = per_channel(c, x);
  for (float& v : factor) {
    check(v != 0.0f, "divides by zero");
    v = 1.0f / v;
    check(std::isfinite(v), "divides by a number close to zero");
  }
  if (c.numel() > 1) return result(affine(plain(x), factor, {}), x.flat);
  result(times(x, factor[0]));
}

// From one float to another.
void Arithmetic::cast() {
  const int64_t to = integer("to", 0, 0, 100);
  ignore({"saturate"});  // of 8-bit floats
  check(to == onnx::TensorProto::FLOAT || to == onnx::TensorProto::FLOAT16 ||
            to == onnx::TensorProto::BFLOAT16 || to == onnx::TensorProto::DOUBLE,
        "only casts between floating-point types are supported");
  check(!input(0).steps, "casts the integers of a QuantizeLinear");
  identity();
}

void Arithmetic::dropout() {
  ignore({"ratio", "seed"});
  ignore_input(1);
  check(!has_input(2) || constant_input(2).item() == 0.0f,
        "training_mode is true: its result is random");
  identity();
}

void Arithmetic::softmax() {
  Node node;
  node.attributes = SoftmaxAttributes{};
  node.inputs = {plain(0)};
  const bool flat = input(0).flat;
  const Shape& s = shape(node.inputs[0]);
  const bool pixel = s[1] == 1 && s[2] == 1;
  const int64_t axis = integer("axis", importer_.opset < 13 ? 1 : -1, -4, 3);
  check(axis == 1 || axis == (flat ? -1 : -3),
        "axis {} is not supported, only that of the channels", axis);
  check(pixel || (!flat && importer_.opset >= 13), "a softmax over all values is not supported");
  result(add(std::move(node)), flat);
}

constexpr OnnxImport kImports[] = {imports<&Arithmetic::add_or_subtract>("Add"),
                                   imports<&Arithmetic::cast>("Cast"),
                                   imports<&Arithmetic::clip>("Clip"),
                                   imports<&Arithmetic::divide>("Div"),
                                   imports<&Arithmetic::dropout>("Dropout"),
                                   imports<&Arithmetic::hard_sigmoid>("HardSigmoid"),
                                   imports<&Arithmetic::hard_swish>("HardSwish"),
                                   imports<&Arithmetic::identity>("Identity"),
                                   imports<&Arithmetic::leaky_relu>("LeakyRelu"),
                                   imports<&Arithmetic::mish>("Mish"),
                                   imports<&Arithmetic::multiply>("Mul"),
                                   imports<&Arithmetic::parametric_relu>("PRelu"),
                                   imports<&Arithmetic::relu>("Relu"),
                                   imports<&Arithmetic::sigmoid>("Sigmoid"),
                                   imports<&Arithmetic::softmax>("Softmax"),
                                   imports<&Arithmetic::softplus_or_tanh>("Softplus"),
                                   imports<&Arithmetic::add_or_subtract>("Sub"),
                                   imports<&Arithmetic::softplus_or_tanh>("Tanh")};

// ---- export

void export_add(OnnxExporter& e, const Node& node) {
  const float factor = node.as<AddAttributes>().residual_scale;
  const std::string b = e.scaled(node.name, e.in(node, 1), factor);
  e.write("Add", node, {e.in(node), b});
}

void export_multiply(OnnxExporter& e, const Node& node) {
  e.write("Mul", node, {e.in(node), e.in(node, 1)});
}

void export_activation(OnnxExporter& e, const Node& node) {
  e.finish(node, e.activation(node.name, e.in(node), node.activation()));
}

void export_softmax(OnnxExporter& e, const Node& node) {
  e.write("Softmax", node, {e.in(node)}, {{"axis", int64_t{1}}});
}

constexpr OnnxExport kExports[] = {{NodeKind::kAdd, export_add},
                                   {NodeKind::kMultiply, export_multiply},
                                   {NodeKind::kActivation, export_activation},
                                   {NodeKind::kSoftmax, export_softmax}};

}  // namespace

OnnxNodes arithmetic_nodes() { return {kImports, kExports}; }

}  // namespace sextant::deploy
