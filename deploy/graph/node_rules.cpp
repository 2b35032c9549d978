// SPDX-License-Identifier: Apache-2.0
#include "deploy/graph/node_rules.h"

#include <cmath>

#include "kernels/detection/decode.h"

namespace sextant::deploy {
namespace {

// ---- attributes: keys, bounds, and how `info` shows them

using Stored = Key::Stored;

constexpr Key kActivationKey{"activation", " {}"};
constexpr Key kResidualScaleKey{.name = "residual_scale", .stored = Stored::kUnlessDefault};

void visit_activation(Activation& activation, AttributeVisitor& v) {
  std::string name(name_of(activation));
  v.attribute(kActivationKey, &name);
  activation = from_name<Activation>(name);
}

// Kinds without attributes.
template <class A>
requires std::is_empty_v<A>
void visit(A&, AttributeVisitor&) {}

void visit(ConvAttributes& a, AttributeVisitor& v) {
  v.attribute({"stride", " s{}"}, &a.stride, {1, 64});
  v.attribute({"padding"}, &a.padding, {0, 64});
  v.attribute({"groups", " g{}"}, &a.groups, {1, kMaxChannels});
  std::string place(name_of(a.residual_place()));
  v.attribute({.name = "residual", .stored = Stored::kOptional}, &place);
  a.residual = from_name<ResidualPlace>(place) != ResidualPlace::kNone;
  a.residual_before_activation =
      from_name<ResidualPlace>(place) == ResidualPlace::kBeforeActivation;
  if (a.residual) v.note(a.residual_before_activation ? " +residual (before act)" : " +residual");
  v.attribute(kResidualScaleKey, &a.residual_scale);
  v.weight();
  visit_activation(a.activation, v);
}

void visit(DeconvAttributes& a, AttributeVisitor& v) {
  v.note(" s2");
  v.weight();
  visit_activation(a.activation, v);
}

void visit(MaxPoolAttributes& a, AttributeVisitor& v) {
  v.attribute({"kernel", " {}", true}, &a.kernel, {1, 255});
  v.attribute({"stride", " s{}", true}, &a.stride, {1, 64});
  v.attribute({"padding"}, &a.padding, {0, static_cast<double>(a.kernel / 2)});
  v.attribute({"ceil_mode", " ceil", false, Stored::kUnlessDefault}, &a.ceil_mode);
}

void visit(AveragePoolAttributes& a, AttributeVisitor& v) {
  const double above = static_cast<double>(a.kernel_height - 1);
  const double beside = static_cast<double>(a.kernel_width - 1);
  v.attribute({"kernel_height", " {}", true}, &a.kernel_height, {1, 255});
  v.attribute({"kernel_width", "x{}", true}, &a.kernel_width, {1, 255});
  v.attribute({"stride", " s{}", true}, &a.stride, {1, 64});
  v.attribute({"top"}, &a.top, {0, above});
  v.attribute({"left"}, &a.left, {0, beside});
  v.attribute({"bottom"}, &a.bottom, {0, above});
  v.attribute({"right"}, &a.right, {0, beside});
  v.attribute({"ceil_mode", " ceil", false, Stored::kUnlessDefault}, &a.ceil_mode);
}

void visit(DepthToSpaceAttributes& a, AttributeVisitor& v) {
  v.attribute({"scale", " x{}", true}, &a.scale, {1, 64});
  v.attribute({"scale_width", ",{}", false, Stored::kUnlessDefault}, &a.scale_width, {0, 64});
  const auto below = [](int64_t scale) { return static_cast<double>(scale - 1); };
  v.attribute({.name = "crop_bottom", .stored = Stored::kUnlessDefault}, &a.crop_bottom,
              {0, below(a.scale)});
  v.attribute({.name = "crop_right", .stored = Stored::kUnlessDefault}, &a.crop_right,
              {0, below(a.columns())});
}

void visit(UpsampleAttributes& a, AttributeVisitor& v) {
  v.attribute({"scale", " x{}", true}, &a.scale, {1, 64});
}

void visit(AddAttributes& a, AttributeVisitor& v) {
  v.attribute(kResidualScaleKey, &a.residual_scale);
}

void visit(ActivationAttributes& a, AttributeVisitor& v) { visit_activation(a.activation, v); }

void visit(SliceAttributes& a, AttributeVisitor& v) {
  v.attribute({"begin", " [{}", true}, &a.begin, {0, kMaxChannels});
  v.attribute({"end", ",{})", true}, &a.end, {0, kMaxChannels});
}

void visit(GatherAttributes& a, AttributeVisitor& v) {
  v.attribute({"channels"}, &a.channels, {0, kMaxChannels});
}

void visit(BatchNormAttributes& a, AttributeVisitor& v) {
  v.attribute({"eps"}, &a.eps);
  visit_activation(a.activation, v);
}

void visit(DecodeAttributes& a, AttributeVisitor& v) {
  v.attribute({"strides"}, &a.strides, {1, 4096});
  v.attribute({"num_classes"}, &a.num_classes, {1, kMaxChannels});
  v.attribute({"reg_max", " reg_max {}"}, &a.reg_max, {0, 1024});
  v.attribute({"grid_cell_offset"}, &a.grid_cell_offset, {-16, 16});
  v.attribute({"objectness", " objectness", false, Stored::kUnlessDefault}, &a.objectness);
  v.attribute({.name = "size_multiple", .stored = Stored::kUnlessDefault}, &a.size_multiple,
              {0, 4096});
}

// ---- which outputs cannot hold a negative number

bool never(const Node&, const std::vector<bool>&) { return false; }
bool always(const Node&, const std::vector<bool>&) { return true; }
bool where_inputs_are(const Node&, const std::vector<bool>& inputs) {
  return std::ranges::find(inputs, false) == inputs.end();
}
bool by_activation(const Node& node, const std::vector<bool>&) {
  return kernels::traits_of(node.activation()).never_negative;
}
bool conv_never_negative(const Node& node, const std::vector<bool>& inputs) {
  const auto& a = node.as<ConvAttributes>();
  const bool adds_later = a.residual_place() == ResidualPlace::kAfterActivation;
  return by_activation(node, inputs) && (!adds_later || (inputs[1] && a.residual_scale >= 0));
}
bool add_never_negative(const Node& node, const std::vector<bool>& inputs) {
  return where_inputs_are(node, inputs) && node.as<AddAttributes>().residual_scale >= 0;
}

// ---- shapes

void check_same(const Shape& a, const Shape& b) {
  check(a == b, "inputs {} and {} differ", a.str(), b.str());
}

void check_weight(const Node& node) {
  check(node.weight.defined() && node.weight.dtype() == DType::kF32 &&
            node.weight.shape().rank() == 4 && node.weight.numel() > 0,
        "needs a weight, F32 of rank 4");
  const int64_t o = node.weight.dim(0);
  check(node.weight_scale.empty() || std::ssize(node.weight_scale) == o,
        "{} weight scales for {} channels", node.weight_scale.size(), o);
  for (const float s : node.weight_scale)
    check(std::isfinite(s) && s > 0, "weight scales must be positive and finite");
  if (node.bias.defined())
    check(node.bias.dtype() == DType::kF32 && node.bias.shape() == Shape{o},
          "bias {}, expected F32 [{}]", node.bias.shape().str(), o);
  if (!node.gain.defined()) return;
  check(node.gain.dtype() == DType::kF32 && node.gain.shape() == Shape{o},
        "gains {}, expected F32 [{}]", node.gain.shape().str(), o);
  for (const float g : node.gain.span<float>())
    check(std::isfinite(g) && g > 0, "gains must be positive and finite");
}

// The windows along one side.
int64_t windows(int64_t size, int64_t before, int64_t behind, int64_t kernel, int64_t stride,
                bool ceil_mode) {
  const int64_t rest = size + before + behind - kernel;
  const int64_t last = (rest + stride - 1) / stride * stride;  // where the last window begins
  return rest / stride + 1 + (ceil_mode && rest % stride != 0 && last < size + before);
}

// The output shape of x under a kh x kw kernel.
Shape slid(const Shape& x, int64_t kh, int64_t kw, int64_t stride, int64_t padding,
           int64_t channels, bool ceil_mode = false) {
  check(x[1] + 2 * padding >= kh && x[2] + 2 * padding >= kw, "input {} is smaller than the kernel",
        x.str());
  return {x[0], windows(x[1], padding, padding, kh, stride, ceil_mode),
          windows(x[2], padding, padding, kw, stride, ceil_mode), channels};
}

Shape first_input(const ShapeQuery& q) { return q.inputs[0]; }

Shape conv_shape(const ShapeQuery& q) {
  const auto& a = q.node.as<ConvAttributes>();
  check_weight(q.node);
  const Shape& x = q.inputs[0];
  const Shape& w = q.node.weight.shape();
  check(std::max(w[1], w[2]) <= 64, "kernel is {}, must be in [1, 64]", std::max(w[1], w[2]));
  check(w[0] % a.groups == 0 && w[3] * a.groups == x[3],
        "weight {} with {} groups does not fit input {}", w.str(), a.groups, x.str());
  const Shape y = slid(x, w[1], w[2], a.stride, a.padding, w[0]);
  if (a.residual) check_same(q.inputs[1], y);
  return y;
}

Shape deconv_shape(const ShapeQuery& q) {
  check_weight(q.node);
  const Shape& x = q.inputs[0];
  const Shape& w = q.node.weight.shape();
  check(w[1] == 2 && w[2] == 2 && w[3] == x[3],
        "weight {} does not fit input {}; only 2x2 stride 2", w.str(), x.str());
  return {x[0], 2 * x[1], 2 * x[2], w[0]};
}

Shape max_pool_shape(const ShapeQuery& q) {
  const auto& a = q.node.as<MaxPoolAttributes>();
  return slid(q.inputs[0], a.kernel, a.kernel, a.stride, a.padding, q.inputs[0][3], a.ceil_mode);
}

Shape average_pool_shape(const ShapeQuery& q) {
  const auto& a = q.node.as<AveragePoolAttributes>();
  const Shape& x = q.inputs[0];
  check(x[1] + a.top + a.bottom >= a.kernel_height && x[2] + a.left + a.right >= a.kernel_width,
        "input {} is smaller than the kernel", x.str());
  return {x[0], windows(x[1], a.top, a.bottom, a.kernel_height, a.stride, a.ceil_mode),
          windows(x[2], a.left, a.right, a.kernel_width, a.stride, a.ceil_mode), x[3]};
}

Shape depth_to_space_shape(const ShapeQuery& q) {
  const auto& a = q.node.as<DepthToSpaceAttributes>();
  const Shape& x = q.inputs[0];
  check(x[3] % a.taps() == 0, "input {} does not have {} channels for each of its output", x.str(),
        a.taps());
  return {x[0], a.scale * x[1] - a.crop_bottom, a.columns() * x[2] - a.crop_right, x[3] / a.taps()};
}

Shape upsample_shape(const ShapeQuery& q) {
  const int64_t scale = q.node.as<UpsampleAttributes>().scale;
  const Shape& x = q.inputs[0];
  return {x[0], scale * x[1], scale * x[2], x[3]};
}

Shape concat_shape(const ShapeQuery& q) {
  Shape y = q.inputs[0];
  y[3] = 0;
  for (const Shape& x : q.inputs) {
    check(x[0] == y[0] && x[1] == y[1] && x[2] == y[2], "inputs {} and {} differ",
          q.inputs[0].str(), x.str());
    y[3] += x[3];
  }
  return y;
}

Shape equal_inputs(const ShapeQuery& q) {
  for (const Shape& x : q.inputs) check_same(q.inputs[0], x);
  return q.inputs[0];
}

Shape multiply_shape(const ShapeQuery& q) {
  const Shape &x = q.inputs[0], &factor = q.inputs[1];
  if (factor != Shape{x[0], 1, 1, x[3]}) check_same(x, factor);
  return x;
}

Shape gather_shape(const ShapeQuery& q) {
  const auto& channels = q.node.as<GatherAttributes>().channels;
  Shape y = q.inputs[0];
  check(!channels.empty(), "gathers no channels");
  for (const int64_t c : channels) check(c < y[3], "channel {} is not one of {}", c, y[3]);
  y[3] = std::ssize(channels);
  return y;
}

Shape slice_shape(const ShapeQuery& q) {
  const auto& a = q.node.as<SliceAttributes>();
  Shape y = q.inputs[0];
  check(a.begin < a.end && a.end <= y[3], "slice [{},{}) does not fit {} channels", a.begin, a.end,
        y[3]);
  y[3] = a.end - a.begin;
  return y;
}

Shape one_pixel(const ShapeQuery& q) { return {q.inputs[0][0], 1, 1, q.inputs[0][3]}; }

Shape batch_norm_shape(const ShapeQuery& q) {
  const Node& node = q.node;
  check(node.norm.size() == 4 * node.inputs.size(),
        "needs gamma, beta, mean and variance for each branch");
  const Shape y = equal_inputs(q);
  for (const Tensor& t : node.norm)
    check(t.defined() && t.dtype() == DType::kF32 && t.numel() == y[3],
          "batch-norm parameters do not fit the channels");
  return y;
}

Shape decode_shape(const ShapeQuery& q) {
  const auto& a = q.node.as<DecodeAttributes>();
  const size_t maps = a.maps_per_level();
  check(!a.strides.empty() && a.strides.size() <= kernels::kMaxLevels &&
            q.inputs.size() == maps * a.strides.size(),
        "{} inputs for {} strides, expected {} per level", q.inputs.size(), a.strides.size(), maps);
  int64_t anchors = 0;
  for (size_t l = 0; l < a.strides.size(); ++l) {
    const Shape& cls = q.inputs[maps * l];
    const Shape& reg = q.inputs[maps * l + 1];
    check(cls[0] == reg[0] && cls[1] == reg[1] && cls[2] == reg[2] && cls[3] == a.num_classes &&
              reg[3] == 4 * (a.reg_max + 1),
          "level {}: inputs {} and {} do not fit {} classes, reg_max {}", l, cls.str(), reg.str(),
          a.num_classes, a.reg_max);
    if (a.objectness) {
      const Shape& obj = q.inputs[maps * l + 2];
      check(obj == Shape{cls[0], cls[1], cls[2], 1},
            "level {}: objectness {} does not fit classes {}", l, obj.str(), cls.str());
    }
    const auto fits = [&](int64_t cells, int64_t pixels) {
      const int64_t stride = a.strides[l];
      const bool rounded = a.size_multiple > 0 && stride > a.size_multiple;
      return rounded ? cells == (pixels + stride - 1) / stride : cells * stride == pixels;
    };
    check(fits(cls[1], q.image[1]) && fits(cls[2], q.image[2]),
          "level {} is {}x{} at stride {}, the image {}x{}: image sizes must be multiples of {}", l,
          cls[1], cls[2], a.strides[l], q.image[1], q.image[2],
          a.size_multiple > 0 ? a.size_multiple : *std::ranges::max_element(a.strides));
    anchors += cls[1] * cls[2];
  }
  return {q.inputs[0][0], anchors, 5 + a.num_classes};
}

// ---- channels

ChannelLinks of_first_input(const Node&, const std::vector<int64_t>& channels) {
  return {{.count = channels[0]}};
}
ChannelLinks of_all_inputs(const Node&, const std::vector<int64_t>& channels) {
  ChannelLinks links;
  for (size_t i = 0; i < channels.size(); ++i) links.push_back({.input = i, .count = channels[i]});
  return links;
}
ChannelLinks one_after_the_other(const Node&, const std::vector<int64_t>& channels) {
  ChannelLinks links;
  int64_t begin = 0;
  for (size_t i = 0; i < channels.size(); ++i) {
    links.push_back({.input = i, .output_begin = begin, .count = channels[i]});
    begin += channels[i];
  }
  return links;
}
ChannelLinks of_taps(const Node& node, const std::vector<int64_t>& channels) {
  const int64_t taps = node.as<DepthToSpaceAttributes>().taps();
  ChannelLinks links;
  for (int64_t tap = 0; tap < taps; ++tap) {
    const int64_t count = channels[0] / taps;
    links.push_back({.begin = tap * count, .count = count});
  }
  return links;
}
ChannelLinks of_slice(const Node& node, const std::vector<int64_t>&) {
  const auto& a = node.as<SliceAttributes>();
  return {{.begin = a.begin, .count = a.end - a.begin}};
}

ChannelLinks of_gather(const Node& node, const std::vector<int64_t>&) {
  ChannelLinks links;
  for (const int64_t c : node.as<GatherAttributes>().channels)
    links.push_back({.begin = c, .output_begin = std::ssize(links), .count = 1});
  return links;
}

// ---- the table

constexpr NodeRules kRules[] = {
    {.kind = NodeKind::kInput,
     .inputs = 0,
     .range = RangeRule::kGiven,
     .never_negative = always,
     .shape = [](const ShapeQuery& q) { return q.image; }},
    {.kind = NodeKind::kConv,
     .traced_as = "conv2d",
     .weight = Layout::kConv,
     .never_negative = conv_never_negative,
     .shape = conv_shape},
    {.kind = NodeKind::kDeconv,
     .traced_as = "conv_transpose2d",
     .weight = Layout::kConvTranspose,
     .never_negative = by_activation,
     .shape = deconv_shape},
    {.kind = NodeKind::kMaxPool,
     .traced_as = "max_pool2d",
     .range = RangeRule::kPasses,
     .never_negative = where_inputs_are,
     .shape = max_pool_shape,
     .channels = of_all_inputs},
    {.kind = NodeKind::kAveragePool,
     .range = RangeRule::kShares,
     .never_negative = where_inputs_are,
     .shape = average_pool_shape,
     .channels = of_all_inputs},
    {.kind = NodeKind::kUpsample,
     .traced_as = "upsample_nearest",
     .range = RangeRule::kPasses,
     .integer = IntegerRule::kMoves,
     .never_negative = where_inputs_are,
     .shape = upsample_shape,
     .channels = of_all_inputs},
    {.kind = NodeKind::kDepthToSpace,
     .range = RangeRule::kPasses,
     .integer = IntegerRule::kMoves,
     .never_negative = where_inputs_are,
     .shape = depth_to_space_shape,
     .channels = of_taps},
    {.kind = NodeKind::kConcat,
     .inputs = kAnyNumber,
     .traced_as = "concat",
     .range = RangeRule::kPasses,
     .integer = IntegerRule::kMoves,
     .never_negative = where_inputs_are,
     .shape = concat_shape,
     .channels = one_after_the_other},
    {.kind = NodeKind::kAdd,
     .inputs = 2,
     .traced_as = "add",
     .range = RangeRule::kShares,
     .never_negative = add_never_negative,
     .shape = equal_inputs,
     .channels = of_all_inputs},
    {.kind = NodeKind::kMultiply,
     .inputs = 2,
     .traced_as = "multiply",
     .never_negative = where_inputs_are,
     .shape = multiply_shape,
     .channels = of_first_input},
    {.kind = NodeKind::kActivation,
     .traced_as = "activation",
     .never_negative = by_activation,
     .shape = first_input,
     .channels = of_all_inputs},
    {.kind = NodeKind::kSlice,
     .traced_as = "slice_channels",
     .range = RangeRule::kPasses,
     .integer = IntegerRule::kMoves,
     .never_negative = where_inputs_are,
     .shape = slice_shape,
     .channels = of_slice},
    {.kind = NodeKind::kGather,
     .traced_as = "gather_channels",
     .range = RangeRule::kPasses,
     .integer = IntegerRule::kMoves,
     .never_negative = where_inputs_are,
     .shape = gather_shape,
     .channels = of_gather},
    {.kind = NodeKind::kGlobalAvgPool,
     .traced_as = "global_avg_pool",
     .never_negative = where_inputs_are,
     .shape = one_pixel,
     .channels = of_all_inputs},
    {.kind = NodeKind::kSoftmax,
     .range = RangeRule::kFloat,
     .never_negative = always,
     .shape = first_input},
    {.kind = NodeKind::kBatchNorm,
     .inputs = kAnyNumber,
     .traced_as = "rep_bn_act",
     .only_traced = true,
     .never_negative = by_activation,
     .shape = batch_norm_shape},
    {.kind = NodeKind::kDecode,
     .inputs = kAnyNumber,
     .traced_as = "detect_decode",
     .range = RangeRule::kFloat,
     .integer = IntegerRule::kReads,
     .never_negative = never,
     .shape = decode_shape},
};

// Rows are indexed by NodeKind.
constexpr bool in_order() {
  for (size_t i = 0; i < std::size(kRules); ++i)
    if (kRules[i].kind != enum_names(NodeKind{}).rows[i].first ||
        kRules[i].kind != static_cast<NodeKind>(i))
      return false;
  return std::size(kRules) == enum_names(NodeKind{}).rows.size() &&
         std::size(kRules) == std::variant_size_v<Attributes>;
}
static_assert(in_order(), "NodeKind, its names, Attributes and kRules list the same in one order");

}  // namespace

const NodeRules& rules_of(NodeKind kind) { return kRules[static_cast<size_t>(kind)]; }

std::optional<NodeKind> kind_traced_as(std::string_view operation) {
  for (const NodeRules& rules : kRules)
    if (!operation.empty() && rules.traced_as == operation) return rules.kind;
  return {};
}

void visit_attributes(Attributes& attributes, AttributeVisitor& visitor) {
  std::visit([&](auto& a) { visit(a, visitor); }, attributes);
}

void visit_attributes(const Attributes& attributes, AttributeVisitor& visitor) {
  Attributes copy = attributes;
  visit_attributes(copy, visitor);
}

}  // namespace sextant::deploy
