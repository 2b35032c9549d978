// SPDX-License-Identifier: Apache-2.0
// Operators that move values without changing them, and operators that compute shapes.
#include <algorithm>
#include <cmath>
#include <utility>

#include "deploy/onnx/evaluate.h"
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
  void transpose();
  void resize();
  void shape_of();
  void gather();
  void pad();
  void depth_to_space();

 private:
  bool images(const std::vector<int64_t>& to) const;
  void slice_of(const std::vector<int64_t>& channels);
  void crop(const std::vector<int64_t>& starts, const std::vector<int64_t>& ends,
            const std::vector<int64_t>& axes);
};

// The node that takes these channels.
void Shapes::slice_of(const std::vector<int64_t>& channels) {
  Node node;
  node.inputs = {image(0)};
  check(!channels.empty(), "takes no channels");
  bool neighbours = true;
  for (size_t c = 1; c < channels.size(); ++c) neighbours &= channels[c] == channels[c - 1] + 1;
  if (neighbours)
    node.attributes = SliceAttributes{.begin = channels.front(), .end = channels.back() + 1};
  else
    node.attributes = GatherAttributes{channels};
  result(add(std::move(node)));
}

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

void Shapes::concat() {
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
  const int64_t step = has_input(4) ? constant_input(4).ints().at(0) : 1;
  const auto of_pixels = [](int64_t a) { return a == 2 || a == 3 || a == -2 || a == -1; };
  if (std::ranges::all_of(axes, of_pixels) && step == 1) return crop(starts, ends, axes);
  check(starts.size() == 1 && ends.size() == 1 && axes.size() == 1, "only one axis is supported");
  check(axes[0] == 1 || axes[0] == -3, "axis {} is not supported, only that of the channels",
        axes[0]);
  check(step >= 1, "step {} is not supported", step);
  const int64_t size = shape(image(0))[3];
  const auto index = [&](int64_t v) { return std::clamp<int64_t>(v < 0 ? v + size : v, 0, size); };
  std::vector<int64_t> channels;
  for (int64_t c = index(starts[0]); c < index(ends[0]); c += std::min(step, size))
    channels.push_back(c);
  slice_of(channels);
}

// Of the last rows and columns behind a DepthToSpace, as a transposed convolution ends.
void Shapes::crop(const std::vector<int64_t>& starts, const std::vector<int64_t>& ends,
                  const std::vector<int64_t>& axes) {
  const int x = image(0);
  const Node& made = *std::ranges::find(importer_.graph.nodes, x, &Node::output);
  check(made.is<DepthToSpaceAttributes>(),
        "height and width can only be cut behind a DepthToSpace");
  check(starts.size() == axes.size() && ends.size() == axes.size(),
        "{} starts and {} ends for {} axes", starts.size(), ends.size(), axes.size());
  Node node;
  node.inputs = made.inputs;
  auto a = made.as<DepthToSpaceAttributes>();
  for (size_t i = 0; i < axes.size(); ++i) {
    const bool rows = axes[i] == 2 || axes[i] == -2;
    const int64_t size = shape(x)[rows ? 1 : 2];
    const int64_t end = std::min(ends[i] < 0 ? ends[i] + size : ends[i], size);
    int64_t& cut = rows ? a.crop_bottom : a.crop_right;
    cut += size - end;
    check((starts[i] == 0 || starts[i] == -size) && cut < (rows ? a.scale : a.columns()),
          "takes [{},{}) of {}; only fewer than {} can be cut, at the end", starts[i], ends[i],
          size, rows ? a.scale : a.columns());
  }
  node.attributes = a;
  result(add(std::move(node)));
}

// DCR: channels are ordered (row, column, c); CRD: (c, row, column).
void Shapes::depth_to_space() {
  Node node;
  node.inputs = {image(0)};
  const int64_t scale = integer("blocksize", 0, 1, 64), taps = scale * scale;
  const std::string mode = text("mode", "DCR");
  check(mode == "DCR" || mode == "CRD", "mode '{}' is not supported", mode);
  const int64_t channels = shape(node.inputs[0])[3];
  check(channels % taps == 0, "its input has {} channels, not a multiple of {}", channels, taps);
  if (mode == "CRD" && taps > 1) {
    Node sorted;
    sorted.inputs = node.inputs;
    GatherAttributes order;
    for (int64_t tap = 0; tap < taps; ++tap)
      for (int64_t c = 0; c < channels / taps; ++c) order.channels.push_back(c * taps + tap);
    sorted.attributes = std::move(order);
    node.inputs = {add(std::move(sorted))};
  }
  node.attributes = DepthToSpaceAttributes{scale};
  result(add(std::move(node)));
}

void Shapes::split() {
  const int x = image(0);
  const int64_t axis = integer("axis", 0, -4, 3);
  check(axis == 1 || axis == -3, "axis {} is not supported", axis);
  std::vector<int64_t> sizes = integers_or_input("split", 1);
  const int64_t parts = current().output_size();
  const bool counted = attribute("num_outputs") != nullptr;
  check(!counted || integer("num_outputs", 0, 1, 1 << 16) == parts,
        "num_outputs does not match its {} outputs", parts);
  if (sizes.empty()) sizes = equal_parts(shape(x)[3], parts, counted);
  check(std::ssize(sizes) == parts, "{} sizes for {} outputs", sizes.size(), parts);
  int64_t sum = 0;
  for (const int64_t size : sizes) {
    check(size >= 1 && size <= shape(x)[3], "a part has {} channels", size);
    sum += size;
  }
  check(sum == shape(x)[3], "its parts have {} channels, its input {}", sum, shape(x)[3]);
  int64_t begin = 0;
  for (int p = 0; p < parts; ++p) {
    Node part;
    part.inputs = {x};
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

// Whether the dimensions keep each image by itself.
bool Shapes::images(const std::vector<int64_t>& to) const {
  return !to.empty() && std::ranges::count(to, -1) <= 1 &&
         (to[0] == 0 || to[0] == -1 || to[0] == importer_.batch_dimension());
}

// To [N, C * H * W] or [N,C,H,W]; or to [N, g, C / g, H, W] and back, around a Transpose.
void Shapes::reshape() {
  OnnxValue x = input(0);
  const std::vector<int64_t> to = integers_or_input("shape", 1);
  check(integer("allowzero", 0, 0, 1) == 0 || std::ranges::count(to, 0) == 0,
        "a dimension of size 0 is not supported");
  const std::vector<int64_t> order = std::exchange(x.order, {});
  const int tensor = plain(x);
  const Shape& s = shape(tensor);
  const int64_t all = s[1] * s[2] * s[3];
  // -1 stands for the remaining size, 0 for the input's
  const auto is = [&](size_t d, int64_t size) {
    const bool same_place = !x.flat && (order.empty() || d == 0);
    return to[d] == size || to[d] == -1 || (to[d] == 0 && same_place);
  };
  if (images(to)) {
    if (to.size() == 2 && order.empty() && is(1, all) && (to[1] != 0 || all == s[3]))
      return result(tensor, true);
    if (to.size() == 4 && is(1, s[3]) && is(2, s[1]) && is(3, s[2])) {
      if (order.empty()) return result(tensor, false);
      Node node;
      node.inputs = {tensor};
      node.attributes = GatherAttributes{order};
      return result(add(std::move(node)));
    }
    const int64_t groups = to.size() != 5 || !order.empty() || x.flat ? 0
                           : to[1] > 0                                ? to[1]
                           : to[1] == -1 && to[2] > 0                 ? s[3] / to[2]
                                                                      : 0;
    if (groups > 0 && s[3] % groups == 0 && is(2, s[3] / groups) && to[2] != 0 &&
        (to[3] == s[1] || to[3] == -1) && (to[4] == s[2] || to[4] == -1)) {
      OnnxValue v;
      v.tensor = tensor;
      v.columns = s[3] / groups;
      for (int64_t c = 0; c < s[3]; ++c) v.order.push_back(c);
      return result(std::move(v));
    }
  }
  fail(
      "only [N,C,H,W] to [N, C * H * W], and the channels as groups around a Transpose, are "
      "supported");
}

// Of groups and channels in them: a channel shuffle.
void Shapes::transpose() {
  OnnxValue x = input(0);
  const std::vector<int64_t> perm = integers("perm", {}, 0, 8);
  const bool same = std::ranges::is_sorted(perm) && !perm.empty();
  const bool swaps = perm == std::vector<int64_t>{0, 2, 1, 3, 4};
  check(same || (swaps && !x.order.empty()),
        "is only supported between Reshapes that shuffle channels");
  if (same) return result(std::move(x));
  const int64_t rows = std::ssize(x.order) / x.columns;
  std::vector<int64_t> turned;
  for (int64_t c = 0; c < x.columns; ++c)
    for (int64_t r = 0; r < rows; ++r)
      turned.push_back(x.order[static_cast<size_t>(r * x.columns + c)]);
  x.order = std::move(turned);
  x.columns = rows;
  result(std::move(x));
}

void Shapes::squeeze() {
  const int tensor = image(0);
  std::vector<int64_t> axes = integers_or_input("axes", 1);
  for (int64_t& a : axes) a += a < 0 ? 4 : 0;
  std::ranges::sort(axes);
  check(shape(tensor)[1] == 1 && shape(tensor)[2] == 1 && axes == std::vector<int64_t>{2, 3},
        "only height and width of size 1 are supported");
  result(tensor, true);
}

void Shapes::unsqueeze() {
  const OnnxValue x = input(0);
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
  const int tensor = image(0);
  ignore(
      {"cubic_coeff_a", "exclude_outside", "extrapolation_value", "antialias"});  // of other modes
  check(text("keep_aspect_ratio_policy", "stretch") == "stretch",
        "keep_aspect_ratio_policy '{}' is not supported", text("keep_aspect_ratio_policy", ""));
  check(text("mode", "nearest") == "nearest", "mode '{}' is not supported, only nearest",
        text("mode", ""));
  const bool upsample = current().op_type() == "Upsample" || importer_.opset < 11;
  const Shape s = shape(tensor);
  std::vector<float> scales;
  const int place = upsample ? 1 : 2;
  if (!upsample) ignore_input(1);  // the region of another mode
  if (has_input(place) && constant_input(place).numel() == 0) ignore_input(place);
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
  const int64_t n = importer_.batch_dimension();
  std::vector<int64_t> dims{n, s[3], s[1], s[2]};
  if (x.flat) dims = {n, s[1] * s[2] * s[3]};
  constexpr int64_t kAny = int64_t{1} << 62;
  dims = part_of_shape(dims, integer("start", 0, -kAny, kAny), integer("end", kAny, -kAny, kAny));
  const int64_t rank = std::ssize(dims);
  OnnxValue v;
  v.constant = std::make_shared<OnnxConstant>(OnnxConstant::of(std::move(dims), {rank}));
  result(std::move(v));
}

// Of channels.
void Shapes::gather() {
  const OnnxConstant& index = constant_input(1);
  const int64_t axis = integer("axis", 0, -4, 3);
  check(axis == 1 || axis == -3, "axis {} is not supported, only that of the channels", axis);
  check(index.dims().size() == 1, "its indices have {} dimensions, must have one",
        index.dims().size());
  const int64_t size = shape(image(0))[3];
  std::vector<int64_t> channels = index.ints();
  for (int64_t& c : channels) {
    if (c < 0) c += size;
    check(c >= 0 && c < size, "index {} is out of range for {} channels", c, size);
  }
  slice_of(channels);
}

// The node that follows absorbs the zeros into a convolution.
void Shapes::pad() {
  OnnxValue v;
  v.tensor = image(0);
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

constexpr OnnxImport kImports[] = {imports<&Shapes::concat>("Concat"),
                                   imports<&Shapes::constant_node>("Constant"),
                                   imports<&Shapes::depth_to_space>("DepthToSpace"),
                                   imports<&Shapes::flatten>("Flatten"),
                                   imports<&Shapes::gather>("Gather"),
                                   imports<&Shapes::pad>("Pad"),
                                   imports<&Shapes::reshape>("Reshape"),
                                   imports<&Shapes::resize>("Resize"),
                                   imports<&Shapes::shape_of>("Shape"),
                                   imports<&Shapes::slice>("Slice"),
                                   imports<&Shapes::split>("Split"),
                                   imports<&Shapes::squeeze>("Squeeze"),
                                   imports<&Shapes::transpose>("Transpose"),
                                   imports<&Shapes::unsqueeze>("Unsqueeze"),
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

// ONNX has it for equal scales only. This is a transposed convolution whose windows do not overlap
// and that moves each value to its place.
void export_unequal(OnnxExporter& e, const Node& node) {
  const auto& a = node.as<DepthToSpaceAttributes>();
  const int64_t inputs = e.shape(node.inputs[0])[3], outputs = inputs / a.taps();
  Tensor one = Tensor::zeros({inputs, outputs, a.scale, a.columns()});
  for (int64_t i = 0; i < inputs; ++i)
    one.f32()[(i * outputs + i % outputs) * a.taps() + i / outputs] = 1.0f;
  const std::vector<int64_t> kernel{a.scale, a.columns()};
  e.write(
      "ConvTranspose", node,
      {e.in(node), e.constant(node.name + ".places", one, {inputs, outputs, a.scale, a.columns()})},
      {{"kernel_shape", kernel},
       {"pads", std::vector<int64_t>{0, 0, a.crop_bottom, a.crop_right}},
       {"strides", kernel}});
}

void export_depth_to_space(OnnxExporter& e, const Node& node) {
  const auto& a = node.as<DepthToSpaceAttributes>();
  if (a.scale != a.columns()) return export_unequal(e, node);
  const std::vector<OnnxAttribute> attributes{{"blocksize", a.scale}};
  if (a.crop_bottom == 0 && a.crop_right == 0)
    return e.write("DepthToSpace", node, {e.in(node)}, attributes);
  OnnxWriter& w = e.writer();
  const std::string whole =
      w.node("DepthToSpace", node.name + "/uncropped", {e.in(node)}, attributes);
  std::vector<int64_t> axes, ends;
  for (const auto& [axis, cut] : {std::pair(2, a.crop_bottom), std::pair(3, a.crop_right)})
    if (cut > 0) {
      axes.push_back(axis);
      ends.push_back(-cut);
    }
  const std::string begin = w.int64s(node.name + "/begin", std::vector<int64_t>(axes.size(), 0));
  const std::string end = w.int64s(node.name + "/end", ends);
  e.write("Slice", node, {whole, begin, end, w.int64s(node.name + "/axes", axes)});
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

// Into how many groups channels are cut where they are taken from each by turns; else 0.
int64_t shuffled_groups(const std::vector<int64_t>& channels, int64_t inputs) {
  const int64_t count = std::ssize(channels);
  if (count != inputs || count < 2 || channels[0] != 0 || channels[1] < 2) return 0;
  const int64_t size = channels[1], groups = count / size;
  if (groups * size != count) return 0;
  for (int64_t c = 0; c < count; ++c)
    if (channels[static_cast<size_t>(c)] != c % groups * size + c / groups) return 0;
  return groups;
}

// A shuffle is written as one, which needs the image's size: pnnx makes a ShuffleChannel of it, where
// it takes a Gather for something else. In int8 a Gather stays, as runtimes gather integers.
void export_gather(OnnxExporter& e, const Node& node) {
  const auto& channels = node.as<GatherAttributes>().channels;
  const Shape& s = e.shape(node.inputs[0]);
  const int64_t groups = shuffled_groups(channels, s[3]);
  if (groups > 0 && !e.options().dynamic_size && !e.int8()) {
    OnnxWriter& w = e.writer();
    const int64_t n = e.options().dynamic_batch ? 0 : s[0];
    const auto shape = [&](const char* name, const std::vector<int64_t>& to) {
      return w.int64s(node.name + "/" + name, to);
    };
    const std::string cut =
        w.node("Reshape", node.name + "/groups",
               {e.in(node), shape("groups_shape", {n, groups, s[3] / groups, s[1], s[2]})});
    const std::string turned = w.node("Transpose", node.name + "/by_turns", {cut},
                                      {{"perm", std::vector<int64_t>{0, 2, 1, 3, 4}}});
    return e.write("Reshape", node, {turned, shape("shape", {n, s[3], s[1], s[2]})});
  }
  e.write("Gather", node, {e.in(node), e.writer().int64s(node.name + "/channels", channels)},
          {{"axis", int64_t{1}}});
}

constexpr OnnxExport kExports[] = {{NodeKind::kUpsample, export_upsample},
                                   {NodeKind::kDepthToSpace, export_depth_to_space},
                                   {NodeKind::kConcat, export_concat},
                                   {NodeKind::kSlice, export_slice},
                                   {NodeKind::kGather, export_gather}};

}  // namespace

OnnxNodes shape_nodes() { return {kImports, kExports}; }

}  // namespace sextant::deploy
