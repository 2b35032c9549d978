// SPDX-License-Identifier: Apache-2.0
// Elementwise operators (sums, products, activations) and softmax.
#include <algorithm>
#include <cmath>

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
  void leaky_relu();
  void clip();
  void pending_function();
  void softmax();
  void identity();

 private:
  std::vector<float> per_channel(const OnnxConstant& c, const OnnxValue& other) const;
  void fold_integers();
  int activate(int tensor, Activation a);
};

int Arithmetic::activate(int tensor, Activation a) {
  Node node;
  node.inputs = {tensor};
  node.attributes = ActivationAttributes{a};
  return add(std::move(node));
}

// The constant as one factor or summand for each channel of `other`.
std::vector<float> Arithmetic::per_channel(const OnnxConstant& c, const OnnxValue& other) const {
  const int64_t channels = shape(other.tensor)[3];
  if (c.numel() == 1) return std::vector<float>(static_cast<size_t>(channels), c.item());
  const std::vector<int64_t>& d = c.dims();
  const size_t place = other.flat ? 1 : 3;  // position of the channels, from the end
  check(c.numel() == channels && d.size() >= place && d[d.size() - place] == channels,
        "its constant of {} values does not fit {} channels", c.numel(), channels);
  check(!other.flat || (shape(other.tensor)[1] == 1 && shape(other.tensor)[2] == 1),
        "a constant per value of a flattened image is not supported");
  return c.floats();
}

// Both inputs are constants: short lists of integers, as in computations on shapes.
void Arithmetic::fold_integers() {
  const OnnxConstant &a = constant_input(0), &b = constant_input(1);
  check(a.integers() && b.integers() && a.numel() <= 64 && b.numel() <= 64 &&
            (a.numel() == b.numel() || a.numel() == 1 || b.numel() == 1),
        "its inputs are constants, but not short lists of integers");
  const std::vector<int64_t> x = a.ints(), y = b.ints();
  const std::string& op = current().op_type();
  std::vector<int64_t> out;
  constexpr int64_t kMost = int64_t{1} << 30;
  for (size_t i = 0; i < std::max(x.size(), y.size()); ++i) {
    const int64_t p = x[x.size() == 1 ? 0 : i], q = y[y.size() == 1 ? 0 : i];
    check(std::max(p, q) <= kMost && std::min(p, q) >= -kMost && (op != "Div" || q != 0),
          "its operands {} and {} are out of bounds", p, q);
    out.push_back(op == "Add" ? p + q : op == "Sub" ? p - q : op == "Mul" ? p * q : p / q);
  }
  OnnxValue v;
  v.constant = std::make_shared<OnnxConstant>(
      OnnxConstant::of(std::move(out), a.numel() == 1 ? b.dims() : a.dims()));
  result(std::move(v));
}

void Arithmetic::leaky_relu() {
  const float alpha = number("alpha", 0.01f);
  check(close(alpha, kernels::kLeakySlope), "alpha is {}, only {} is supported", alpha,
        kernels::kLeakySlope);
  result(activate(plain(0), Activation::kLeakyReLU), input(0).flat);
}

// min(relu(x), m) = m - relu(m - relu(x)): ReLU6 without an activation of its own.
void Arithmetic::clip() {
  const float low = has_input(1) ? constant_input(1).item() : number("min", -3e38f);
  const float high = has_input(2) ? constant_input(2).item() : number("max", 3e38f);
  check(low == 0.0f && high > 0,
        "only a range from 0 to a positive number is supported, not {} to {}", low, high);
  const bool flat = input(0).flat;
  int x = activate(plain(0), Activation::kReLU);
  if (high < 1e30f) {
    const size_t channels = static_cast<size_t>(shape(x)[3]);
    const std::vector<float> minus(channels, -1.0f);
    const std::vector<float> most(channels, high);
    x = activate(affine(x, minus, most), Activation::kReLU);
    x = activate(affine(x, minus, most), Activation::kReLU);
  }
  result(x, flat);
}

// Parts of HardSwish and Mish.
void Arithmetic::pending_function() {
  OnnxValue v = input(0);
  const std::string& op = current().op_type();
  check(!v.is_constant(), "its input must be a tensor, not a constant");
  if (op == "Tanh") {
    check(v.pending == Pending::kSoftplus, "is only supported as a part of Mish");
    v.pending = Pending::kTanhOfSoftplus;
  } else {
    v.tensor = plain(v);
    v.factor = 1.0f;
    v.pending = op == "Softplus" ? Pending::kSoftplus : Pending::kHardSigmoid;
    check(op == "Softplus" ||
              (close(number("alpha", 0.2f), 1.0f / 6) && close(number("beta", 0.5f), 0.5f)),
          "only alpha 1/6 and beta 1/2 are supported");
  }
  result(std::move(v));
}

void Arithmetic::add_or_subtract() {
  const float sign = current().op_type() == "Sub" ? -1.0f : 1.0f;
  const OnnxValue a = input(0);
  const OnnxValue b = input(1);
  if (a.is_constant() && b.is_constant()) return fold_integers();
  if (a.is_constant() || b.is_constant()) {
    const OnnxValue& x = a.is_constant() ? b : a;
    const int tensor = plain(x);
    std::vector<float> shift = per_channel(constant_input(a.is_constant() ? 0 : 1), x);
    if (b.is_constant())
      for (float& v : shift) v *= sign;
    return result(
        affine(tensor, std::vector<float>(shift.size(), a.is_constant() ? sign : 1.0f), shift),
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

void Arithmetic::multiply() {
  const OnnxValue a = input(0);
  const OnnxValue b = input(1);
  if (a.is_constant() && b.is_constant()) return fold_integers();
  if (a.is_constant() || b.is_constant()) {
    OnnxValue x = a.is_constant() ? b : a;
    const OnnxConstant& c = constant_input(a.is_constant() ? 0 : 1);
    if (c.numel() == 1) {
      x.tensor = plain(x);
      x.factor = c.item();
      return result(std::move(x));
    }
    return result(affine(plain(x), per_channel(c, x), {}), x.flat);
  }
  for (const auto& [x, gate] : {std::pair(a, b), std::pair(b, a)}) {
    if (x.pending != Pending::kNone || x.factor != 1.0f || gate.factor != 1.0f) continue;
    if (gate.tensor == x.tensor && gate.pending == Pending::kHardSigmoid)
      return result(activate(plain(x), Activation::kHardswish), x.flat);
    if (gate.tensor == x.tensor && gate.pending == Pending::kTanhOfSoftplus)
      return result(activate(plain(x), Activation::kMish), x.flat);
    const auto made = std::ranges::find(importer_.graph.nodes, gate.tensor, &Node::output);
    if (gate.pending == Pending::kNone && made->is<ActivationAttributes>() &&
        made->activation() == Activation::kSigmoid && made->inputs[0] == x.tensor)
      return result(activate(plain(x), Activation::kSiLU), x.flat);
  }
  fail("a product of two tensors is only supported in SiLU, HardSwish and Mish");
}

void Arithmetic::divide() {
  OnnxValue x = input(0);
  const OnnxConstant& c = constant_input(1);
  if (x.is_constant()) return fold_integers();
  std::vector<float> factor = per_channel(c, x);
  for (float& v : factor) {
    check(v != 0.0f, "divides by zero");
    v = 1.0f / v;
    check(std::isfinite(v), "divides by a number close to zero");
  }
  x.tensor = plain(x);
  x.factor = factor[0];
  if (c.numel() == 1) return result(std::move(x));
  result(affine(x.tensor, factor, {}), x.flat);
}

// Identity, Dropout, and Cast from one float to another.
void Arithmetic::identity() {
  const OnnxValue v = input(0);
  if (current().op_type() == "Cast" && !v.is_constant()) {
    const int64_t to = integer("to", 0, 0, 100);
    check(to == onnx::TensorProto::FLOAT || to == onnx::TensorProto::FLOAT16 ||
              to == onnx::TensorProto::BFLOAT16 || to == onnx::TensorProto::DOUBLE,
          "only casts between floating-point types are supported");
  }
  result(v);
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
                                   imports<&Arithmetic::identity>("Cast"),
                                   imports<&Arithmetic::clip>("Clip"),
                                   imports<&Arithmetic::divide>("Div"),
                                   imports<&Arithmetic::identity>("Dropout"),
                                   imports<&Arithmetic::pending_function>("HardSigmoid"),
                                   imports<&Arithmetic::hard_swish>("HardSwish"),
                                   imports<&Arithmetic::identity>("Identity"),
                                   imports<&Arithmetic::leaky_relu>("LeakyRelu"),
                                   imports<&Arithmetic::mish>("Mish"),
                                   imports<&Arithmetic::multiply>("Mul"),
                                   imports<&Arithmetic::relu>("Relu"),
                                   imports<&Arithmetic::sigmoid>("Sigmoid"),
                                   imports<&Arithmetic::softmax>("Softmax"),
                                   imports<&Arithmetic::pending_function>("Softplus"),
                                   imports<&Arithmetic::add_or_subtract>("Sub"),
                                   imports<&Arithmetic::pending_function>("Tanh")};

// ---- export

void export_add(OnnxExporter& e, const Node& node) {
  const float factor = node.as<AddAttributes>().residual_scale;
  const std::string b = e.scaled(node.name, e.in(node, 1), factor);
  e.write("Add", node, {e.in(node), b});
}

void export_activation(OnnxExporter& e, const Node& node) {
  e.finish(node, e.activation(node.name, e.in(node), node.activation()));
}

void export_softmax(OnnxExporter& e, const Node& node) {
  e.write("Softmax", node, {e.in(node)}, {{"axis", int64_t{1}}});
}

constexpr OnnxExport kExports[] = {{NodeKind::kAdd, export_add},
                                   {NodeKind::kActivation, export_activation},
                                   {NodeKind::kSoftmax, export_softmax}};

}  // namespace

OnnxNodes arithmetic_nodes() { return {kImports, kExports}; }

}  // namespace sextant::deploy
