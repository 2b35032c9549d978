// SPDX-License-Identifier: Apache-2.0
// Operators that move values without changing them, and operators that compute shapes.
#include <algorithm>
#include <cmath>

#include "deploy/onnx/exporter.h"
#include "deploy/onnx/importer.h"
#include "deploy/onnx/nodes.h"

namespace sextant::deploy {
namespace {

// ---- import

class Shapes : public OnnxOperator {
 public:
  using OnnxOperator::OnnxOperator;
  void constant_node();
  void concat();
  void slice();
  void split();
  void flatten();
  void reshape();
  void squeeze();
  void unsqueeze();
  void resize();
  void shape_of();
  void gather();
  void pad();

 private:
  OnnxValue joined_floats();
};

void Shapes::constant_node() {
  OnnxValue v;
  v.constant_name = name_of_node();
  if (const onnx::AttributeProto* t = attribute("value")) {
    v.constant = std::make_shared<OnnxConstant>(t->t());
  } else {
    onnx::TensorProto& owned = importer_.own();
    const auto* f = attribute("value_float");
    const auto* fs = attribute("value_floats");
    const auto* i = attribute("value_int");
    const auto* is = attribute("value_ints");
    check(f || fs || i || is, "has no supported value");
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

// A short list of floats, such as the factors of a Resize, joined from several.
OnnxValue Shapes::joined_floats() {
  onnx::TensorProto& owned = importer_.own();
  owned.set_data_type(onnx::TensorProto::FLOAT);
  for (int i = 0; i < current().input_size(); ++i) {
    check(owned.float_data_size() + constant_input(i).numel() <= 64, "joins too many constants");
    for (const float v : constant_input(i).floats()) owned.add_float_data(v);
  }
  owned.add_dims(owned.float_data_size());
  OnnxValue v;
  v.constant = std::make_shared<OnnxConstant>(owned);
  return v;
}

void Shapes::concat() {
  int constants = 0;
  for (int i = 0; i < current().input_size(); ++i) constants += input(i).constant != nullptr;
  if (constants == current().input_size()) {
    bool integers = true;
    for (int i = 0; i < current().input_size(); ++i) integers &= constant_input(i).integers();
    if (!integers) return result(joined_floats());
    std::vector<int64_t> all;
    for (int i = 0; i < current().input_size(); ++i) {
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
  node.attributes = ConcatAttributes{};
  const bool flat = input(0).flat;
  for (int i = 0; i < current().input_size(); ++i) {
    check(input(i).flat == flat, "concatenates images and matrices");
    node.inputs.push_back(plain(i));
    const Shape& s = shape(node.inputs.back());
    check(!flat || (s[1] == 1 && s[2] == 1), "concatenating flattened images is not supported");
  }
  const int64_t axis = integer("axis", 1, -4, 3);
  check(axis == 1 || axis == (flat ? -1 : -3),
        "axis {} is not supported, only that of the channels", axis);
  result(add(std::move(node)), flat);
}

void Shapes::slice() {
  const std::vector<int64_t> starts = integers_or_input("starts", 1);
  const std::vector<int64_t> ends = integers_or_input("ends", 2);
  std::vector<int64_t> axes = integers_or_input("axes", 3);
  if (axes.empty()) axes = {0};
  const OnnxValue x = input(0);
  for (const int64_t step : has_input(4) ? constant_input(4).ints() : std::vector<int64_t>{1})
    check(step == 1, "step {} is not supported", step);
  check(starts.size() == 1 && ends.size() == 1 && axes.size() == 1, "only one axis is supported");
  const bool folds = x.constant != nullptr;
  check(!x.weight && axes[0] == (folds ? 0 : 1), "axis {} is not supported", axes[0]);
  const int64_t size = folds ? x.constant->numel() : shape(plain(x))[3];
  const auto index = [&](int64_t v) { return std::clamp<int64_t>(v < 0 ? v + size : v, 0, size); };
  if (folds) {
    check(size <= 64 && index(starts[0]) <= index(ends[0]), "must be a short list of numbers");
    const std::vector<int64_t> all = x.constant->ints();
    std::vector<int64_t> part(all.begin() + index(starts[0]), all.begin() + index(ends[0]));
    const int64_t n = std::ssize(part);
    OnnxValue v;
    v.constant = std::make_shared<OnnxConstant>(OnnxConstant::of(std::move(part), {n}));
    return result(std::move(v));
  }
  check(!x.flat, "slicing a matrix is not supported");
  Node node;
  node.inputs = {plain(x)};
  node.attributes = SliceAttributes{.begin = index(starts[0]), .end = index(ends[0])};
  result(add(std::move(node)));
}

void Shapes::split() {
  const int x = plain(0);
  const int64_t axis = integer("axis", 0, -4, 3);
  check(!input(0).flat && (axis == 1 || axis == -3), "axis {} is not supported", axis);
  std::vector<int64_t> sizes = integers_or_input("split", 1);
  const int64_t parts = current().output_size();
  if (sizes.empty()) {
    check(shape(x)[3] % parts == 0, "{} channels do not split into {} parts", shape(x)[3], parts);
    sizes.assign(static_cast<size_t>(parts), shape(x)[3] / parts);
  }
  check(std::ssize(sizes) == parts, "{} sizes for {} outputs", sizes.size(), parts);
  int64_t begin = 0;
  for (int p = 0; p < parts; ++p) {
    Node part;
    part.inputs = {x};
    check(sizes[static_cast<size_t>(p)] >= 1 && sizes[static_cast<size_t>(p)] <= shape(x)[3],
          "a part has {} channels", sizes[static_cast<size_t>(p)]);
    const int64_t end = begin + sizes[static_cast<size_t>(p)];
    part.attributes = SliceAttributes{.begin = begin, .end = end};
    begin = end;
    OnnxValue v;
    v.tensor = add(std::move(part));
    result(p, std::move(v));
  }
}

void Shapes::flatten() {
  const int64_t axis = integer("axis", 1, -4, 4);
  check(axis == 1 || axis == (input(0).flat ? -1 : -3), "axis {} is not supported, only 1", axis);
  result(plain(0), true);
}

void Shapes::reshape() {
  const OnnxValue x = input(0);
  if (x.constant) return result(x);  // a list of numbers stays one
  const int tensor = plain(x);
  const Shape& s = shape(tensor);
  const int64_t all = s[1] * s[2] * s[3];
  std::vector<int64_t> to = integers_or_input("shape", 1);
  const bool images =
      !to.empty() && (to[0] == 0 || to[0] == 1 || to[0] == -1 || to[0] == importer_.batch);
  // -1 stands for the remaining size, 0 for the input's size
  const auto is = [&](size_t d, int64_t size) {
    return to[d] == size || to[d] == -1 || (to[d] == 0 && !x.flat);
  };
  if (images && std::ranges::count(to, -1) <= 1) {
    if (to.size() == 2 && (to[1] == all || to[1] == -1)) return result(tensor, true);
    if (to.size() == 4 && is(1, s[3]) && is(2, s[1]) && is(3, s[2])) return result(tensor, false);
  }
  fail("only [N, C, H, W] to [N, C * H * W] is supported");
}

void Shapes::squeeze() {
  const OnnxValue x = input(0);
  if (x.constant) return result(x);
  const int tensor = plain(x);
  std::vector<int64_t> axes = integers_or_input("axes", 1);
  for (int64_t& a : axes) a += a < 0 ? 4 : 0;
  std::ranges::sort(axes);
  check((axes.empty() || axes == std::vector<int64_t>{2, 3}) && shape(tensor)[1] == 1 &&
            shape(tensor)[2] == 1,
        "only height and width of size 1 are supported");
  result(tensor, true);
}

void Shapes::unsqueeze() {
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
        "only one pixel is supported");
  result(tensor, false);
}

void Shapes::resize() {
  const OnnxValue x = input(0);
  check(!x.flat, "its input must be an image");
  const int tensor = plain(x);
  check(text("mode", "nearest") == "nearest", "mode '{}' is not supported, only nearest",
        text("mode", ""));
  const bool upsample = current().op_type() == "Upsample" || importer_.opset < 11;
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
        "only one whole factor for height and width is supported");
  const std::string where = text("coordinate_transformation_mode", "half_pixel");
  const std::string rounding = text("nearest_mode", "round_prefer_floor");
  // the modes that repeat each pixel `scale` times
  const bool repeats =
      upsample || scales[2] == 1 ||
      (where == "asymmetric" &&
       (rounding == "floor" || (rounding == "round_prefer_floor" && scales[2] == 2))) ||
      (where == "half_pixel" && rounding.starts_with("round_prefer")) ||
      (where == "pytorch_half_pixel" && rounding.starts_with("round_prefer"));
  check(repeats, "{} with {} is not supported", where, rounding);
  Node node;
  node.inputs = {tensor};
  node.attributes = UpsampleAttributes{.scale = static_cast<int64_t>(scales[2])};
  result(add(std::move(node)));
}

void Shapes::shape_of() {
  const OnnxValue x = input(0);
  check(!x.is_constant(), "its input must not be a constant");
  const Shape& s = shape(plain(x));
  std::vector<int64_t> dims{1, s[3], s[1], s[2]};
  if (x.flat) dims = {1, s[1] * s[2] * s[3]};
  const int64_t rank = std::ssize(dims);
  OnnxValue v;
  v.constant = std::make_shared<OnnxConstant>(OnnxConstant::of(std::move(dims), {rank}));
  result(std::move(v));
}

void Shapes::gather() {
  const OnnxConstant& list = constant_input(0);
  const OnnxConstant& index = constant_input(1);
  check(list.numel() <= 64 && index.numel() <= 64 && list.dims().size() == 1 &&
            integer("axis", 0, -1, 0) <= 0,
        "is only supported for short lists of numbers");
  const std::vector<int64_t> all = list.ints();
  std::vector<int64_t> out;
  for (int64_t i : index.ints()) {
    if (i < 0) i += std::ssize(all);
    check(i >= 0 && i < std::ssize(all), "index {} is out of range for {} numbers", i, all.size());
    out.push_back(all[static_cast<size_t>(i)]);
  }
  OnnxValue v;
  v.constant = std::make_shared<OnnxConstant>(OnnxConstant::of(std::move(out), index.dims()));
  result(std::move(v));
}

// The node that follows absorbs the zeros into a convolution.
void Shapes::pad() {
  OnnxValue v = input(0);
  check(!v.is_constant() && !v.flat, "its input must be an image");
  v.tensor = plain(v);
  v.factor = 1.0f;
  check(text("mode", "constant") == "constant", "mode '{}' is not supported", text("mode", ""));
  const float value = has_input(2) ? constant_input(2).item() : number("value", 0.0f);
  check(value == 0.0f, "only padding with 0 is supported, not {}", value);
  const std::vector<int64_t> pads = integers_or_input("pads", 1);
  check(pads.size() == 8 && !has_input(3), "needs begin and end of all four dimensions");
  for (const int64_t p : pads) check(p >= 0 && p <= 64, "pads hold {}, which is out of bounds", p);
  check(pads[0] == 0 && pads[1] == 0 && pads[4] == 0 && pads[5] == 0,
        "only height and width can be padded");
  v.zeros = {pads[2], pads[3], pads[6], pads[7]};
  result(std::move(v));
}

constexpr OnnxImport kImports[] = {
    imports<&Shapes::concat>("Concat"),   imports<&Shapes::constant_node>("Constant"),
    imports<&Shapes::flatten>("Flatten"), imports<&Shapes::gather>("Gather"),
    imports<&Shapes::pad>("Pad"),         imports<&Shapes::reshape>("Reshape"),
    imports<&Shapes::resize>("Resize"),   imports<&Shapes::shape_of>("Shape"),
    imports<&Shapes::slice>("Slice"),     imports<&Shapes::split>("Split"),
    imports<&Shapes::squeeze>("Squeeze"), imports<&Shapes::unsqueeze>("Unsqueeze"),
    imports<&Shapes::resize>("Upsample")};

// ---- export

void export_upsample(OnnxExporter& e, const Node& node) {
  const float s = static_cast<float>(node.as<UpsampleAttributes>().scale);
  const float scales[4] = {1, 1, s, s};
  e.write("Resize", node, {e.in(node), "", e.writer().floats(node.name + "/scales", {4}, scales)},
          {{"coordinate_transformation_mode", std::string("asymmetric")},
           {"mode", std::string("nearest")},
           {"nearest_mode", std::string("floor")}});
}

void export_concat(OnnxExporter& e, const Node& node) {
  std::vector<std::string> inputs;
  for (size_t i = 0; i < node.inputs.size(); ++i) inputs.push_back(e.in(node, i));
  e.write("Concat", node, inputs, {{"axis", int64_t{1}}});
}

void export_slice(OnnxExporter& e, const Node& node) {
  const auto& a = node.as<SliceAttributes>();
  const auto ints = [&](const char* name, int64_t value) {
    return e.writer().int64s(node.name + "/" + name, {value});
  };
  const std::string begin = ints("begin", a.begin);
  const std::string end = ints("end", a.end);
  e.write("Slice", node, {e.in(node), begin, end, ints("axis", 1)});
}

constexpr OnnxExport kExports[] = {{NodeKind::kUpsample, export_upsample},
                                   {NodeKind::kConcat, export_concat},
                                   {NodeKind::kSlice, export_slice}};

}  // namespace

OnnxNodes shape_nodes() { return {kImports, kExports}; }

}  // namespace sextant::deploy
