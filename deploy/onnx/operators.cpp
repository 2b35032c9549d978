// Element-wise operators and those that only move values, of an ONNX model.
#include <algorithm>
#include <cmath>

#include "deploy/onnx/importer.h"
#include "deploy/onnx/weights.h"

namespace sextant::deploy {
namespace {

using Pending = OnnxValue::Pending;

bool close(float a, float b) { return std::abs(a - b) <= 1e-5f * std::abs(b); }

}  // namespace

// The constant as one factor or summand per channel of `other`.
std::vector<float> OnnxImporter::per_channel(const OnnxConstant& c, const OnnxValue& other) const {
  const int64_t channels = shape(other.tensor)[3];
  if (c.numel() == 1) return std::vector<float>(static_cast<size_t>(channels), c.item());
  const std::vector<int64_t>& d = c.dims();
  const size_t place = other.flat ? 1 : 3;  // of the channels, from the end
  check(c.numel() == channels && d.size() >= place && d[d.size() - place] == channels,
        "its constant of {} values does not fit {} channels", c.numel(), channels);
  check(!other.flat || (shape(other.tensor)[1] == 1 && shape(other.tensor)[2] == 1),
        "a constant per value of a flattened image is not known");
  return c.floats();
}

void OnnxImporter::fold_integers() {
  const OnnxConstant &a = constant_input(0), &b = constant_input(1);
  check(a.integers() && b.integers() && a.numel() <= 64 && b.numel() <= 64 &&
            (a.numel() == b.numel() || a.numel() == 1 || b.numel() == 1),
        "reckons with constants that are no lists of a few integers");
  const std::vector<int64_t> x = a.ints(), y = b.ints();
  const std::string& op = now_->op_type();
  std::vector<int64_t> out;
  constexpr int64_t kMost = int64_t{1} << 30;
  for (size_t i = 0; i < std::max(x.size(), y.size()); ++i) {
    const int64_t p = x[x.size() == 1 ? 0 : i], q = y[y.size() == 1 ? 0 : i];
    check(std::max(p, q) <= kMost && std::min(p, q) >= -kMost && (op != "Div" || q != 0),
          "reckons with {} and {}", p, q);
    out.push_back(op == "Add" ? p + q : op == "Sub" ? p - q : op == "Mul" ? p * q : p / q);
  }
  OnnxValue v;
  v.constant = std::make_shared<OnnxConstant>(
      OnnxConstant::of(std::move(out), a.numel() == 1 ? b.dims() : a.dims()));
  result(std::move(v));
}

void OnnxImporter::leaky_relu() {
  const float alpha = number("alpha", 0.01f);
  check(close(alpha, kernels::kLeakySlope), "alpha is {}, only {} is known", alpha,
        kernels::kLeakySlope);
  result(activate(plain(0), Activation::kLeakyReLU), input(0).flat);
}

// min(relu(x), m) = m - relu(m - relu(x)): ReLU6 without a function of its own.
void OnnxImporter::clip() {
  const float low = has_input(1) ? constant_input(1).item() : number("min", -3e38f);
  const float high = has_input(2) ? constant_input(2).item() : number("max", 3e38f);
  check(low == 0.0f && high > 0, "only from 0 to a positive number is known, not {} to {}", low,
        high);
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
void OnnxImporter::pending_function() {
  OnnxValue v = input(0);
  const std::string& op = now_->op_type();
  check(!v.is_constant(), "reads a constant where it needs a tensor");
  if (op == "Tanh") {
    check(v.pending == Pending::kSoftplus, "is only known as a part of Mish");
    v.pending = Pending::kTanhOfSoftplus;
  } else {
    v.tensor = plain(v);
    v.factor = 1.0f;
    v.pending = op == "Softplus" ? Pending::kSoftplus : Pending::kHardSigmoid;
    check(op == "Softplus" ||
              (close(number("alpha", 0.2f), 1.0f / 6) && close(number("beta", 0.5f), 0.5f)),
          "only alpha 1/6 and beta 1/2 are known");
  }
  result(std::move(v));
}

void OnnxImporter::add_or_subtract() {
  const float sign = now_->op_type() == "Sub" ? -1.0f : 1.0f;
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
  node.kind = NodeKind::kAdd;
  // the factor of one side is part of the node
  OnnxValue second = b;
  OnnxValue first = a;
  if (sign == 1.0f && a.factor != 1.0f && b.factor == 1.0f) std::swap(first, second);
  node.attributes.residual_scale = second.factor * sign;
  second.factor = 1.0f;
  node.inputs = {plain(first), plain(second)};
  check(a.flat == b.flat, "adds an image and a matrix");
  result(add(std::move(node), name_of_node()), a.flat);
}

void OnnxImporter::multiply() {
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
    const auto made = std::ranges::find(graph.nodes, gate.tensor, &Node::output);
    if (gate.pending == Pending::kNone && made->kind == NodeKind::kActivation &&
        made->attributes.activation == Activation::kSigmoid && made->inputs[0] == x.tensor)
      return result(activate(plain(x), Activation::kSiLU), x.flat);
  }
  fail("a product of two tensors is only known as SiLU, HardSwish or Mish");
}

void OnnxImporter::divide() {
  OnnxValue x = input(0);
  const OnnxConstant& c = constant_input(1);
  if (x.is_constant()) return fold_integers();
  std::vector<float> factor = per_channel(c, x);
  for (float& v : factor) {
    check(v != 0.0f, "divides by zero");
    v = 1.0f / v;
    check(std::isfinite(v), "divides by next to nothing");
  }
  x.tensor = plain(x);
  x.factor = factor[0];
  if (c.numel() == 1) return result(std::move(x));
  result(affine(x.tensor, factor, {}), x.flat);
}

// Identity, Dropout, and Cast from one float to another.
void OnnxImporter::identity() {
  const OnnxValue v = input(0);
  if (now_->op_type() == "Cast" && !v.is_constant()) {
    const int64_t to = integer("to", 0, 0, 100);
    check(to == onnx::TensorProto::FLOAT || to == onnx::TensorProto::FLOAT16 ||
              to == onnx::TensorProto::BFLOAT16 || to == onnx::TensorProto::DOUBLE,
          "only casts between floats are known");
  }
  result(v);
}

// ---- shapes

void OnnxImporter::constant_node() {
  OnnxValue v;
  v.constant_name = name_of_node();
  if (const onnx::AttributeProto* t = attribute("value")) {
    v.constant = std::make_shared<OnnxConstant>(t->t());
  } else {
    onnx::TensorProto& owned = owned_.emplace_back();
    const auto* f = attribute("value_float");
    const auto* fs = attribute("value_floats");
    const auto* i = attribute("value_int");
    const auto* is = attribute("value_ints");
    check(f || fs || i || is, "has no value that is known");
    owned.set_data_type(f || fs ? onnx::TensorProto::FLOAT : onnx::TensorProto::INT64);
    if (f) owned.add_float_data(f->f());
    if (i) owned.add_int64_data(i->i());
    if (fs) *owned.mutable_float_data() = fs->floats();
    if (is) *owned.mutable_int64_data() = is->ints();
    if (fs) owned.add_dims(fs->floats_size());
    if (is) owned.add_dims(is->ints_size());
    v.constant = std::make_shared<OnnxConstant>(owned);
  }
  result(std::move(v));
}

// A list of a few floats, the factors of a Resize say, out of several.
OnnxValue OnnxImporter::joined_floats() {
  onnx::TensorProto& owned = owned_.emplace_back();
  owned.set_data_type(onnx::TensorProto::FLOAT);
  for (int i = 0; i < now_->input_size(); ++i) {
    check(owned.float_data_size() + constant_input(i).numel() <= 64, "joins too many constants");
    for (const float v : constant_input(i).floats()) owned.add_float_data(v);
  }
  owned.add_dims(owned.float_data_size());
  OnnxValue v;
  v.constant = std::make_shared<OnnxConstant>(owned);
  return v;
}

void OnnxImporter::concat() {
  int constants = 0;
  for (int i = 0; i < now_->input_size(); ++i) constants += input(i).constant != nullptr;
  if (constants == now_->input_size()) {
    bool integers = true;
    for (int i = 0; i < now_->input_size(); ++i) integers &= constant_input(i).integers();
    if (!integers) return result(joined_floats());
    std::vector<int64_t> all;
    for (int i = 0; i < now_->input_size(); ++i) {
      const std::vector<int64_t> part = constant_input(i).ints();
      check(all.size() + part.size() <= 64, "joins too many constants");
      all.insert(all.end(), part.begin(), part.end());
    }
    const int64_t n = std::ssize(all);
    OnnxValue v;
    v.constant = std::make_shared<OnnxConstant>(OnnxConstant::of(std::move(all), {n}));
    return result(std::move(v));
  }
  Node node;
  node.kind = NodeKind::kConcat;
  const bool flat = input(0).flat;
  for (int i = 0; i < now_->input_size(); ++i) {
    check(input(i).flat == flat, "joins images and matrices");
    node.inputs.push_back(plain(i));
    const Shape& s = shape(node.inputs.back());
    check(!flat || (s[1] == 1 && s[2] == 1), "joining flattened images is not known");
  }
  const int64_t axis = integer("axis", 1, -4, 3);
  check(axis == 1 || axis == (flat ? -1 : -3), "axis {} is not known, only the channels'", axis);
  result(add(std::move(node), name_of_node()), flat);
}

void OnnxImporter::slice() {
  const std::vector<int64_t> starts = integers_or_input("starts", 1);
  const std::vector<int64_t> ends = integers_or_input("ends", 2);
  std::vector<int64_t> axes = integers_or_input("axes", 3);
  if (axes.empty()) axes = {0};
  const OnnxValue x = input(0);
  for (const int64_t step : has_input(4) ? constant_input(4).ints() : std::vector<int64_t>{1})
    check(step == 1, "step {} is not known", step);
  check(starts.size() == 1 && ends.size() == 1 && axes.size() == 1, "only one axis is known");
  const bool folds = x.constant != nullptr;
  check(!x.weight && axes[0] == (folds ? 0 : 1), "axis {} is not known", axes[0]);
  const int64_t size = folds ? x.constant->numel() : shape(plain(x))[3];
  const auto index = [&](int64_t v) { return std::clamp<int64_t>(v < 0 ? v + size : v, 0, size); };
  if (folds) {
    check(size <= 64 && index(starts[0]) <= index(ends[0]), "is no list of a few numbers");
    const std::vector<int64_t> all = x.constant->ints();
    std::vector<int64_t> part(all.begin() + index(starts[0]), all.begin() + index(ends[0]));
    const int64_t n = std::ssize(part);
    OnnxValue v;
    v.constant = std::make_shared<OnnxConstant>(OnnxConstant::of(std::move(part), {n}));
    return result(std::move(v));
  }
  check(!x.flat, "slices a matrix");
  Node node;
  node.kind = NodeKind::kSlice;
  node.inputs = {plain(x)};
  node.attributes.begin = index(starts[0]);
  node.attributes.end = index(ends[0]);
  result(add(std::move(node), name_of_node()));
}

void OnnxImporter::split() {
  const int x = plain(0);
  const int64_t axis = integer("axis", 0, -4, 3);
  check(!input(0).flat && (axis == 1 || axis == -3), "axis {} is not known", axis);
  std::vector<int64_t> sizes = integers_or_input("split", 1);
  const int64_t parts = now_->output_size();
  if (sizes.empty()) {
    check(shape(x)[3] % parts == 0, "{} channels in {} parts", shape(x)[3], parts);
    sizes.assign(static_cast<size_t>(parts), shape(x)[3] / parts);
  }
  check(std::ssize(sizes) == parts, "{} sizes for {} outputs", sizes.size(), parts);
  int64_t begin = 0;
  for (int p = 0; p < parts; ++p) {
    Node node;
    node.kind = NodeKind::kSlice;
    node.inputs = {x};
    check(sizes[static_cast<size_t>(p)] >= 1 && sizes[static_cast<size_t>(p)] <= shape(x)[3],
          "a part has {} channels", sizes[static_cast<size_t>(p)]);
    node.attributes.begin = begin;
    node.attributes.end = begin += sizes[static_cast<size_t>(p)];
    OnnxValue v;
    v.tensor = add(std::move(node), name_of_node());
    check(values_.emplace(now_->output(p), v).second, "an output is made twice");
  }
}

void OnnxImporter::flatten() {
  const int64_t axis = integer("axis", 1, -4, 4);
  check(axis == 1 || axis == (input(0).flat ? -1 : -3), "axis {} is not known, only 1", axis);
  result(plain(0), true);
}

void OnnxImporter::reshape() {
  const OnnxValue x = input(0);
  if (x.constant) return result(x);  // a list of numbers stays one
  const int tensor = plain(x);
  const Shape& s = shape(tensor);
  const int64_t all = s[1] * s[2] * s[3];
  std::vector<int64_t> to = integers_or_input("shape", 1);
  const bool images = !to.empty() && (to[0] == 0 || to[0] == 1 || to[0] == -1 || to[0] == batch);
  // -1 stands for what is left, 0 for what there was
  const auto is = [&](size_t d, int64_t size) {
    return to[d] == size || to[d] == -1 || (to[d] == 0 && !x.flat);
  };
  if (images && std::ranges::count(to, -1) <= 1) {
    if (to.size() == 2 && (to[1] == all || to[1] == -1)) return result(tensor, true);
    if (to.size() == 4 && is(1, s[3]) && is(2, s[1]) && is(3, s[2])) return result(tensor, false);
  }
  fail("only [N, C, H, W] to [N, C * H * W] is known");
}

void OnnxImporter::squeeze() {
  const OnnxValue x = input(0);
  if (x.constant) return result(x);
  const int tensor = plain(x);
  std::vector<int64_t> axes = integers_or_input("axes", 1);
  for (int64_t& a : axes) a += a < 0 ? 4 : 0;
  std::ranges::sort(axes);
  check((axes.empty() || axes == std::vector<int64_t>{2, 3}) && shape(tensor)[1] == 1 &&
            shape(tensor)[2] == 1,
        "only height and width of one pixel are known");
  result(tensor, true);
}

void OnnxImporter::unsqueeze() {
  const OnnxValue x = input(0);
  if (x.constant) {
    OnnxValue v;
    v.constant =
        std::make_shared<OnnxConstant>(OnnxConstant::of(x.constant->ints(), {x.constant->numel()}));
    return result(std::move(v));
  }
  std::vector<int64_t> axes = integers_or_input("axes", 1);
  for (int64_t& a : axes) a += a < 0 ? 4 : 0;
  std::ranges::sort(axes);
  const int tensor = plain(x);
  check(x.flat && axes == std::vector<int64_t>{2, 3} && shape(tensor)[1] == 1 &&
            shape(tensor)[2] == 1,
        "only to one pixel is known");
  result(tensor, false);
}

void OnnxImporter::softmax() {
  Node node;
  node.kind = NodeKind::kSoftmax;
  node.inputs = {plain(0)};
  const bool flat = input(0).flat;
  const Shape& s = shape(node.inputs[0]);
  const bool pixel = s[1] == 1 && s[2] == 1;
  const int64_t axis = integer("axis", opset < 13 ? 1 : -1, -4, 3);
  check(axis == 1 || axis == (flat ? -1 : -3), "axis {} is not known, only the channels'", axis);
  check(pixel || (!flat && opset >= 13), "a softmax over all values is not known");
  result(add(std::move(node), name_of_node()), flat);
}

void OnnxImporter::resize() {
  const OnnxValue x = input(0);
  check(!x.flat, "its input is no image");
  const int tensor = plain(x);
  check(text("mode", "nearest") == "nearest", "mode '{}' is not known, only nearest",
        text("mode", ""));
  const bool upsample = now_->op_type() == "Upsample" || opset < 11;
  const Shape s = shape(tensor);
  std::vector<float> scales;
  const int place = upsample ? 1 : 2;
  if (has_input(place) && constant_input(place).numel() > 0) {
    scales = constant_input(place).floats();
  } else if (const onnx::AttributeProto* a = attribute("scales")) {
    scales.assign(a->floats().begin(), a->floats().end());
  } else {
    const std::vector<int64_t> sizes = constant_input(3).ints();
    check(sizes.size() == 4, "{} sizes, expected 4", sizes.size());
    scales = {1, 1, static_cast<float>(sizes[2]) / static_cast<float>(s[1]),
              static_cast<float>(sizes[3]) / static_cast<float>(s[2])};
    check(sizes[1] == s[3], "changes the channels");
  }
  check(scales.size() == 4 && scales[0] == 1 && scales[1] == 1 && scales[2] == scales[3] &&
            scales[2] >= 1 && scales[2] <= 64 && scales[2] == std::floor(scales[2]),
        "only one whole factor for height and width is known");
  const std::string where = text("coordinate_transformation_mode", "half_pixel");
  const std::string rounding = text("nearest_mode", "round_prefer_floor");
  // what repeats each pixel `scale` times
  const bool repeats =
      upsample || scales[2] == 1 ||
      (where == "asymmetric" &&
       (rounding == "floor" || (rounding == "round_prefer_floor" && scales[2] == 2))) ||
      (where == "half_pixel" && rounding.starts_with("round_prefer")) ||
      (where == "pytorch_half_pixel" && rounding.starts_with("round_prefer"));
  check(repeats, "{} with {} is not known", where, rounding);
  Node node;
  node.kind = NodeKind::kUpsample;
  node.inputs = {tensor};
  node.attributes.scale = static_cast<int64_t>(scales[2]);
  result(add(std::move(node), name_of_node()));
}

void OnnxImporter::shape_of() {
  const OnnxValue x = input(0);
  check(!x.is_constant(), "reads a constant");
  const Shape& s = shape(plain(x));
  std::vector<int64_t> dims{1, s[3], s[1], s[2]};
  if (x.flat) dims = {1, s[1] * s[2] * s[3]};
  const int64_t rank = std::ssize(dims);
  OnnxValue v;
  v.constant = std::make_shared<OnnxConstant>(OnnxConstant::of(std::move(dims), {rank}));
  result(std::move(v));
}

void OnnxImporter::gather() {
  const OnnxConstant& list = constant_input(0);
  const OnnxConstant& index = constant_input(1);
  check(list.numel() <= 64 && index.numel() <= 64 && list.dims().size() == 1 &&
            integer("axis", 0, -1, 0) <= 0,
        "is only known for lists of a few numbers");
  const std::vector<int64_t> all = list.ints();
  std::vector<int64_t> out;
  for (int64_t i : index.ints()) {
    if (i < 0) i += std::ssize(all);
    check(i >= 0 && i < std::ssize(all), "index {} of {} numbers", i, all.size());
    out.push_back(all[static_cast<size_t>(i)]);
  }
  OnnxValue v;
  v.constant = std::make_shared<OnnxConstant>(OnnxConstant::of(std::move(out), index.dims()));
  result(std::move(v));
}

}  // namespace sextant::deploy
