// SPDX-License-Identifier: Apache-2.0
// Layers with weights: convolutions, and operators imported as convolutions.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <utility>

#include "core/text.h"
#include "deploy/graph/conv_layers.h"
#include "deploy/graph/ranges.h"
#include "deploy/onnx/exporter.h"
#include "deploy/onnx/importer.h"
#include "deploy/onnx/nodes.h"
#include "deploy/onnx/weights.h"

namespace sextant::deploy {
namespace {

// ---- import

constexpr int64_t kMostWeights = int64_t{1} << 28;

// One side of a transposed convolution with stride s. Pixel s q + r of its result is a sum over
// pixels q + t of its input, where t = (r + padding - tap * dilation) / s is whole.
struct TransposedSide {
  int64_t stride = 1, dilation = 1, kernel = 1;
  int64_t before = 0, behind = 0;  // padding
  int64_t more = 0;                // output_padding

  // The result has s * size + this many pixels.
  int64_t excess() const { return (kernel - 1) * dilation + 1 + more - before - behind - stride; }
  // Rows q beyond those of the input, and pixels of the last one that the result lacks.
  int64_t rows_more() const {
    return excess() > 0 ? (excess() + stride - 1) / stride : -(-excess() / stride);
  }
  int64_t crop() const { return stride * rows_more() - excess(); }
  // The tap that phase r reads at distance t from q; -1 for none.
  int64_t tap(int64_t r, int64_t t) const {
    const int64_t reach = r + before - t * stride;
    return reach >= 0 && reach % dilation == 0 && reach / dilation < kernel ? reach / dilation : -1;
  }
  // All t lie in [first(), last()], a range that holds 0 and the padding behind the input.
  int64_t first() const {
    return -(std::max<int64_t>((kernel - 1) * dilation - before, 0) / stride);
  }
  int64_t last() const {
    return std::max({(stride - 1 + before) / stride, -rows_more(), int64_t{0}});
  }
};

class Convolutions : public OnnxOperator {
 public:
  using OnnxOperator::OnnxOperator;
  void conv();
  void conv_transpose();
  void gemm();
  void matmul();
  void batch_norm();
  void average_pool();

 private:
  struct Weights {
    std::vector<float> values;
    std::vector<int64_t> dims;
    bool quantized = false;
    std::vector<float> scale;  // per output channel; empty if still to be chosen
    std::string name;          // of the initializer

    // "a.b" for an initializer named "a.b.weight", otherwise "".
    std::string module_name() const {
      const std::string suffix = ".weight";
      return name.ends_with(suffix) ? name.substr(0, name.size() - suffix.size()) : "";
    }
  };
  Weights weights(int i, size_t out_axis) const;
  std::vector<float> bias_values(int i, int64_t channels, bool broadcasts = false) const;
  void check_kernel(const Weights& w) const;
  std::array<TransposedSide, 2> transposed_sides(const Weights& w, const Shape& x) const;
  std::optional<DepthToSpaceAttributes> moves_alone(
      const Weights& w, const std::array<TransposedSide, 2>& sides) const;
  // Input 0 with only its padding pending.
  OnnxValue padded_image();
  void convolution(const OnnxValue& source, Weights w, const OnnxWindow& g, int64_t groups,
                   std::vector<float> bias);
  void phases(const OnnxValue& source, const Weights& w, const OnnxWindow& g, int64_t groups,
              const std::vector<float>& bias);
  void spread(int64_t groups, const DepthToSpaceAttributes& attributes);
  void fully_connected(Weights w, bool transposed, float alpha, std::vector<float> bias);
};

Convolutions::Weights Convolutions::weights(int i, size_t out_axis) const {
  const OnnxValue& v = input(i);
  check(v.is_constant(), "its weight '{}' is not a constant", excerpt(current().input(i)));
  Weights w;
  w.name = v.constant_name;
  if (v.constant) {
    w.values = v.constant->floats();
    w.dims = v.constant->dims();
  } else {
    bool steps = false;
    w.quantized = true;
    w.values = dequantized(*v.weight, steps);
    w.dims = v.weight->values.dims();
    const std::vector<float>& s = v.weight->scale;
    check(out_axis < w.dims.size(), "its weight has {} dimensions", w.dims.size());
    if (steps && s.size() == 1)
      w.scale.assign(static_cast<size_t>(w.dims[out_axis]), s[0]);
    else if (steps && v.weight->axis == static_cast<int64_t>(out_axis))
      w.scale = s;
  }
  check(!w.values.empty() && std::ssize(w.values) <= kMostWeights, "its weight has {} values",
        w.values.size());
  return w;
}

// `broadcasts`: one value may stand for all.
std::vector<float> Convolutions::bias_values(int i, int64_t channels, bool broadcasts) const {
  if (!has_input(i)) return {};
  const OnnxValue& v = input(i);
  check(v.is_constant(), "its bias '{}' is not a constant", excerpt(current().input(i)));
  bool steps = false;
  std::vector<float> b = v.constant ? v.constant->floats() : dequantized(*v.weight, steps);
  const std::vector<int64_t>& dims = v.constant ? v.constant->dims() : v.weight->values.dims();
  if (broadcasts && b.size() == 1) b.assign(static_cast<size_t>(channels), b[0]);
  check(std::ssize(b) == channels && (dims.empty() || b.size() == 1 || dims.back() == channels),
        "its bias has {} values for {} channels", b.size(), channels);
  return b;
}

OnnxValue Convolutions::padded_image() {
  OnnxValue x = input(0);
  check(!x.is_constant() && !x.flat, "its input must be an image");
  OnnxValue image;
  image.zeros = std::exchange(x.zeros, {});
  image.tensor = plain(x);
  return image;
}

void Convolutions::check_kernel(const Weights& w) const {
  check(w.dims.size() == 4, "its weight has {} dimensions; only 2-D layers are supported",
        w.dims.size());
  const std::vector<int64_t> kernel = integers("kernel_shape", {w.dims[2], w.dims[3]}, 1, 1 << 16);
  check(kernel[0] == w.dims[2] && kernel[1] == w.dims[3],
        "kernel_shape is {}x{}, but its weight is {}x{}", kernel[0], kernel[1], w.dims[2],
        w.dims[3]);
}

// Puts the channels of the current result, in the order (group, tap, channel), where they belong.
void Convolutions::spread(int64_t groups, const DepthToSpaceAttributes& attributes) {
  const int64_t taps = attributes.taps();
  if (taps == 1) return;
  const int64_t out = shape(output().tensor)[3] / (groups * taps);
  if (groups > 1) {  // to (tap, group, channel)
    GatherAttributes order;
    for (int64_t tap = 0; tap < taps; ++tap)
      for (int64_t c = 0; c < groups * out; ++c)
        order.channels.push_back((c / out * taps + tap) * out + c % out);
    Node sorted;
    sorted.inputs = {output().tensor};
    sorted.attributes = std::move(order);
    output().tensor = add(std::move(sorted));
  }
  Node places;
  places.inputs = {output().tensor};
  places.attributes = attributes;
  output().tensor = add(std::move(places));
}

// Of strides that differ: a convolution of the smallest stride that both divide, with the channels of
// all pixels of the result that lie within it, and a DepthToSpace.
void Convolutions::phases(const OnnxValue& source, const Weights& w, const OnnxWindow& g,
                          int64_t groups, const std::vector<float>& bias) {
  const int64_t stride = std::lcm(g.stride[0], g.stride[1]);
  const std::array<int64_t, 2> count{stride / g.stride[0], stride / g.stride[1]};
  DepthToSpaceAttributes places{.scale = count[0], .scale_width = count[1]};
  OnnxWindow all;
  all.stride = {stride, stride};
  std::array<int64_t, 2> kernel{};
  for (size_t d = 0; d < 2; ++d) {
    const int64_t reach = (w.dims[d + 2] - 1) * g.dilation[d] + 1;
    const int64_t before = g.pads[d] + source.zeros[d];
    const int64_t behind = g.pads[d + 2] + source.zeros[d + 2];
    const int64_t size = shape(source.tensor)[static_cast<int>(d) + 1];
    check(size + before + behind >= reach, "its input of {} is smaller than the kernel", size);
    const int64_t results = (size + before + behind - reach) / g.stride[d] + 1;
    const int64_t windows = (results + count[d] - 1) / count[d];
    kernel[d] = g.stride[d] * (count[d] - 1) + reach;
    (d == 0 ? places.crop_bottom : places.crop_right) = windows * count[d] - results;
    all.pads[d] = before;
    all.pads[d + 2] = std::max<int64_t>(stride * (windows - 1) + kernel[d] - size - before, 0);
  }
  const int64_t taps = places.taps(), inner = w.dims[1], out = w.dims[0] / groups;
  check(w.dims[0] % groups == 0 && taps * w.dims[0] <= 1 << 16 && kernel[0] <= 64 &&
            kernel[1] <= 64 && taps * w.dims[0] * inner <= kMostWeights / (kernel[0] * kernel[1]),
        "its weight [{},{},{},{}] with strides {} and {} is too large", w.dims[0], inner, w.dims[2],
        w.dims[3], g.stride[0], g.stride[1]);
  Weights wide;
  wide.dims = {taps * w.dims[0], inner, kernel[0], kernel[1]};
  wide.values.assign(static_cast<size_t>(taps * w.dims[0] * inner * kernel[0] * kernel[1]), 0.0f);
  wide.quantized = w.quantized;
  wide.name = w.name;
  std::vector<float> biases;
  for (int64_t row = 0; row < taps * w.dims[0]; ++row) {
    const int64_t tap = row / out % taps, o = row / (taps * out) * out + row % out;
    if (!w.scale.empty()) wide.scale.push_back(w.scale[static_cast<size_t>(o)]);
    if (!bias.empty()) biases.push_back(bias[static_cast<size_t>(o)]);
    const float* from = w.values.data() + o * inner * w.dims[2] * w.dims[3];
    float* to = wide.values.data() + row * inner * kernel[0] * kernel[1];
    const int64_t down = tap / count[1] * g.stride[0], across = tap % count[1] * g.stride[1];
    for (int64_t i = 0; i < inner; ++i)
      for (int64_t y = 0; y < w.dims[2]; ++y)
        for (int64_t x = 0; x < w.dims[3]; ++x)
          to[(i * kernel[0] + down + y * g.dilation[0]) * kernel[1] + across + x * g.dilation[1]] =
              *from++;
  }
  OnnxValue plain_source;
  plain_source.tensor = source.tensor;
  convolution(plain_source, std::move(wide), all, groups, std::move(biases));
  spread(groups, places);
}

// Adds a convolution with weights [O, I, kh, kw]. What our node cannot express goes into the
// kernel: dilation as zeros between its values, unequal padding as zeros around them.
void Convolutions::convolution(const OnnxValue& source, Weights w, const OnnxWindow& g,
                               int64_t groups, std::vector<float> bias) {
  if (g.stride[0] != g.stride[1]) return phases(source, w, g, groups, bias);
  std::array<int64_t, 4> pads = g.pads;
  for (size_t d = 0; d < 4; ++d) pads[d] += source.zeros[d];
  const int64_t padding = *std::max_element(pads.begin(), pads.end());
  const int64_t o = w.dims[0];
  const int64_t i = w.dims[1];
  const int64_t kh = (w.dims[2] - 1) * g.dilation[0] + 1 + 2 * padding - pads[0] - pads[2];
  const int64_t kw = (w.dims[3] - 1) * g.dilation[1] + 1 + 2 * padding - pads[1] - pads[3];
  check(w.dims[2] <= 64 && w.dims[3] <= 64 && kh >= 1 && kw >= 1 && kh <= 64 && kw <= 64 &&
            padding <= 64,
        "a kernel of {}x{} with padding {} is too large", kh, kw, padding);
  check(o * i <= kMostWeights / (kh * kw), "its weight is too large");
  Node node;
  node.inputs = {source.tensor};
  node.attributes = ConvAttributes{.stride = g.stride[0], .padding = padding, .groups = groups};
  node.precision = w.quantized ? Precision::kInt8 : Precision::kFloat32;
  node.weight_scale = w.scale;
  node.weight = Tensor::zeros({o, kh, kw, i});
  const float* from = w.values.data();
  for (int64_t oi = 0; oi < o * i; ++oi)
    for (int64_t y = 0; y < w.dims[2]; ++y)
      for (int64_t x = 0; x < w.dims[3]; ++x) {
        const int64_t row = padding - pads[0] + y * g.dilation[0];
        const int64_t column = padding - pads[1] + x * g.dilation[1];
        node.weight.f32()[((oi / i * kh + row) * kw + column) * i + oi % i] = *from++;
      }
  if (!bias.empty()) node.bias = Tensor::from({std::ssize(bias)}, bias);
  result(add(std::move(node), w.module_name()));
}

void Convolutions::conv() {
  const OnnxValue x = padded_image();
  Weights w = weights(1, 0);
  check_kernel(w);
  const int64_t groups = integer("group", 1, 1, 1 << 16);
  std::vector<float> bias = bias_values(2, w.dims[0]);
  const OnnxWindow g = window(shape(x.tensor), w.dims[2], w.dims[3], x.zeros);
  convolution(x, std::move(w), g, groups, std::move(bias));
}

std::array<TransposedSide, 2> Convolutions::transposed_sides(const Weights& w,
                                                             const Shape& x) const {
  const OnnxWindow g = window(x, 1, 1);
  const auto more = integers("output_padding", {0, 0}, 0, 64);
  const std::string automatic = text("auto_pad", "NOTSET");
  const bool given = attribute("output_shape") != nullptr;
  const auto sizes = integers("output_shape", {0, 0}, 1, 1 << 16);
  std::array<TransposedSide, 2> sides;
  for (size_t d = 0; d < 2; ++d) {
    TransposedSide& s = sides[d];
    s = {g.stride[d], g.dilation[d], w.dims[d + 2], g.pads[d], g.pads[d + 2], more[d]};
    if (!given && !automatic.starts_with("SAME")) continue;
    // the padding follows from the size, which for SAME is `stride` pixels for each
    s.before = s.behind = 0;
    const int64_t size = s.stride * x[static_cast<int>(d) + 1];
    int64_t all = size + s.excess() - (given ? sizes[d] : size);
    check(given || all >= 0, "auto_pad {} is not supported for a kernel smaller than the stride",
          automatic);
    check(all > -s.stride, "output_shape {} is larger than its windows reach", sizes[d]);
    s.more += std::max<int64_t>(-all, 0);
    all = std::max<int64_t>(all, 0);
    s.before = automatic == "SAME_UPPER" ? all / 2 : all - all / 2;
    s.behind = all - s.before;
  }
  return sides;
}

// As export_unequal() writes it (shapes.cpp).
std::optional<DepthToSpaceAttributes> Convolutions::moves_alone(
    const Weights& w, const std::array<TransposedSide, 2>& sides) const {
  const auto& [down, across] = sides;
  for (const TransposedSide& s : sides)
    if (s.kernel != s.stride || s.dilation != 1 || s.before != 0 || s.more != 0 ||
        s.behind >= s.stride)
      return {};
  const int64_t taps = down.stride * across.stride;
  if (down.stride == across.stride || w.quantized || w.dims[0] != taps * w.dims[1]) return {};
  for (int64_t i = 0; i < std::ssize(w.values); ++i) {
    const int64_t from = i / (w.dims[1] * taps),
                  place = i % taps * w.dims[1] + i / taps % w.dims[1];
    if (w.values[static_cast<size_t>(i)] != (from == place ? 1.0f : 0.0f)) return {};
  }
  return DepthToSpaceAttributes{down.stride, down.behind, across.behind, across.stride};
}

// A kernel of 2x2 with stride 2 is a node of its own. Another is a convolution with the channels of
// all pixels that come from one, in the kernel that reaches all of their taps, and a
// DepthToSpace.
void Convolutions::conv_transpose() {
  OnnxValue source;
  source.tensor = image(0);
  Weights w = weights(1, 1);
  check_kernel(w);
  const int64_t groups = integer("group", 1, 1, 1 << 16);
  const auto sides = transposed_sides(w, shape(source.tensor));
  const int64_t in = w.dims[0], out = w.dims[1];  // out: of one group
  const std::vector<float> bias = bias_values(2, out * groups);
  const auto plain_side = [](const TransposedSide& s) {
    return s.kernel == 2 && s.stride == 2 && s.dilation == 1 && s.before == 0 && s.behind == 0 &&
           s.more == 0;
  };
  if (groups == 1 && plain_side(sides[0]) && plain_side(sides[1])) {
    Node node;
    node.attributes = DeconvAttributes{};
    node.inputs = {source.tensor};
    node.precision = w.quantized ? Precision::kInt8 : Precision::kFloat32;
    node.weight_scale = w.scale;
    node.weight = iohw_to_ohwi(Tensor::from({in, out, 2, 2}, w.values));
    if (!bias.empty()) node.bias = Tensor::from({std::ssize(bias)}, bias);
    return result(add(std::move(node), w.module_name()));
  }
  const auto& [down, across] = sides;
  if (const auto places = moves_alone(w, sides); places && groups == 1 && bias.empty()) {
    Node node;
    node.inputs = {source.tensor};
    node.attributes = *places;
    return result(add(std::move(node)));
  }
  const int64_t columns = across.stride, taps = down.stride * columns, inner = in / groups;
  const int64_t kh = down.last() - down.first() + 1, kw = across.last() - across.first() + 1;
  check(in % groups == 0 && taps * out * groups <= 1 << 16 && kh <= 64 && kw <= 64 &&
            taps * out * in <= kMostWeights / (kh * kw),
        "its weight [{},{},{},{}] with strides {} and {} and {} groups is too large", in, out,
        w.dims[2], w.dims[3], down.stride, columns, groups);
  Weights conv;
  conv.dims = {groups * taps * out, inner, kh, kw};
  conv.values.assign(static_cast<size_t>(groups * taps * out * inner * kh * kw), 0.0f);
  conv.quantized = w.quantized;
  conv.name = w.name;
  std::vector<float> biases;
  float* to = conv.values.data();
  for (int64_t g = 0; g < groups; ++g)
    for (int64_t tap = 0; tap < taps; ++tap)
      for (int64_t o = 0; o < out; ++o) {
        if (!w.scale.empty()) conv.scale.push_back(w.scale[static_cast<size_t>(o)]);
        if (!bias.empty()) biases.push_back(bias[static_cast<size_t>(g * out + o)]);
        for (int64_t i = 0; i < inner; ++i)
          for (int64_t y = 0; y < kh; ++y)
            for (int64_t x = 0; x < kw; ++x, ++to) {
              const int64_t row = down.tap(tap / columns, y + down.first());
              const int64_t column = across.tap(tap % columns, x + across.first());
              if (row < 0 || column < 0) continue;
              const int64_t from = (g * inner + i) * out + o;
              *to = w.values[static_cast<size_t>((from * w.dims[2] + row) * w.dims[3] + column)];
            }
      }
  OnnxWindow g;
  g.pads = {-down.first(), -across.first(), down.rows_more() + down.last(),
            across.rows_more() + across.last()};
  convolution(source, std::move(conv), g, groups, std::move(biases));
  spread(groups, {down.stride, down.crop(), across.crop(), columns == down.stride ? 0 : columns});
}

// A fully connected layer is a convolution with a kernel as large as its input. `w` is [O, C * H *
// W], or its transpose.
void Convolutions::fully_connected(Weights w, bool transposed, float alpha,
                                   std::vector<float> bias) {
  const OnnxValue x = input(0);
  check(x.flat && w.dims.size() == 2,
        "only the product of a matrix [N, K] and a constant matrix is supported");
  if (!transposed) {
    const int64_t rows = w.dims[0];
    const int64_t columns = w.dims[1];
    std::vector<float> turned(w.values.size());
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < columns; ++c)
        turned[static_cast<size_t>(c * rows + r)] = w.values[static_cast<size_t>(r * columns + c)];
    w.values = std::move(turned);
    std::swap(w.dims[0], w.dims[1]);
  }
  OnnxValue source;
  source.tensor = plain(x);
  const Shape& s = shape(source.tensor);
  check(w.dims[1] == s[1] * s[2] * s[3], "its weight takes {} values, but its input has {}",
        w.dims[1], s[1] * s[2] * s[3]);
  if (alpha != 1.0f) {
    for (float& v : w.values) v *= alpha;
    for (float& v : w.scale) v *= std::abs(alpha);
    if (alpha == 0.0f) w.scale.clear();
  }
  w.dims = {w.dims[0], s[3], s[1], s[2]};
  convolution(source, std::move(w), {}, 1, std::move(bias));
  output().flat = true;
}

void Convolutions::gemm() {
  check(integer("transA", 0, 0, 1) == 0, "transA is not supported");
  const bool transposed = integer("transB", 0, 0, 1) == 1;
  Weights w = weights(1, transposed ? 0 : 1);
  check(w.dims.size() == 2, "its weight must be a matrix");
  const float beta = number("beta", 1.0f);  // also where nothing is added
  std::vector<float> bias = bias_values(2, w.dims[transposed ? 0 : 1], true);
  for (float& v : bias) v *= beta;
  fully_connected(std::move(w), transposed, number("alpha", 1.0f), std::move(bias));
}

void Convolutions::matmul() { fully_connected(weights(1, 1), false, 1.0f, {}); }

void Convolutions::batch_norm() {
  const int x = plain(0);
  Node node;
  node.inputs = {x};
  const float eps = number("epsilon", 1e-5f);
  node.attributes = BatchNormAttributes{.eps = eps};
  node.precision = Precision::kFloat32;
  ignore({"momentum"});
  check(integer("spatial", 1, 0, 1) == 1, "spatial 0 is not supported");
  check(integer("training_mode", 0, 0, 1) == 0, "training_mode is not supported");
  for (int i = 1; i <= 4; ++i) {
    const std::vector<float> v = constant_input(i).floats();
    check(std::ssize(v) == shape(x)[3], "{} parameters for {} channels", v.size(), shape(x)[3]);
    if (i == 4)
      for (const float variance : v)
        check(variance + eps > 0, "a variance is {}, must be positive", variance);
    node.norm.push_back(Tensor::from({std::ssize(v)}, v));
  }
  result(add(std::move(node)), input(0).flat);
}

// A depthwise convolution whose weights are all equal, unless windows reach out of the image and
// count only what lies inside.
void Convolutions::average_pool() {
  const OnnxValue x = padded_image();
  const std::vector<int64_t> kernel = integers("kernel_shape", {0, 0}, 1, 64);
  check(kernel[0] >= 1 && kernel[1] >= 1, "kernel_shape is missing");
  const OnnxWindow g = window(shape(x.tensor), kernel[0], kernel[1], x.zeros);
  const auto rest = [&](size_t d) {
    return (shape(x.tensor)[static_cast<int>(d) + 1] + g.pads[d] + g.pads[d + 2] + x.zeros[d] +
            x.zeros[d + 2] - (kernel[d] - 1) * g.dilation[d] - 1) %
           g.stride[d];
  };
  const bool padded = g.pads != std::array<int64_t, 4>{};
  const bool up = integer("ceil_mode", 0, 0, 1) == 1 && (rest(0) != 0 || rest(1) != 0);
  const bool counted = integer("count_include_pad", 0, 0, 1) == 1;
  if (up || (padded && !counted)) {
    check(!padded || !counted, "ceil_mode with padding that counts is not supported");
    check(g.dilation == std::array<int64_t, 2>{1, 1} && x.zeros == std::array<int64_t, 4>{},
          "{} is only supported without dilation and without a Pad before it",
          up ? "ceil_mode" : "padding that does not count");
    Node node;
    node.inputs = {x.tensor};
    node.attributes = AveragePoolAttributes{kernel[0], kernel[1], g.one_stride(), g.pads[0],
                                            g.pads[1], g.pads[2], g.pads[3],      up};
    return result(add(std::move(node)));
  }
  const int64_t channels = shape(x.tensor)[3];
  const float share = 1.0f / static_cast<float>(kernel[0] * kernel[1]);
  Weights w;
  w.dims = {channels, 1, kernel[0], kernel[1]};
  w.values.assign(static_cast<size_t>(channels * kernel[0] * kernel[1]), share);
  w.quantized = true;  // exactly, as 127 steps
  convolution(x, std::move(w), g, channels, {});
}

constexpr OnnxImport kImports[] = {imports<&Convolutions::average_pool>("AveragePool"),
                                   imports<&Convolutions::batch_norm>("BatchNormalization"),
                                   imports<&Convolutions::conv>("Conv"),
                                   imports<&Convolutions::conv_transpose>("ConvTranspose"),
                                   imports<&Convolutions::gemm>("Gemm"),
                                   imports<&Convolutions::matmul>("MatMul")};

// ---- export

float activated(Activation a, float x) {
  float y = 0;
  kernels::dispatch_activation(a,
                               [&](auto tag) { y = kernels::activate<decltype(tag)::value>(x); });
  return y;
}

// The range of an activation's input whose output has the range `amax`. At least 5: on the negative
// side the activations approach zero or the identity only that far out.
float reach_before(Activation a, float amax) {
  float low = 0;
  float high = std::max(8.0f, amax + 4.0f);
  if (activated(a, high) < amax) return 8.0f;  // a sigmoid
  for (int i = 0; i < 40; ++i) {
    const float middle = (low + high) / 2;
    (activated(a, middle) < amax ? low : high) = middle;
  }
  return std::max(high, 5.0f);
}

std::string channel_scale(OnnxWriter& w, const std::string& name, const std::vector<float>& scale) {
  return w.floats(name + "_scale", {std::ssize(scale)}, scale);
}

// The inputs behind the image of a convolution that runs in integers.
void add_integer_weights(OnnxExporter& e, const Node& node, std::vector<std::string>& inputs) {
  OnnxWriter& w = e.writer();
  const OnnxAttribute axis{"axis", int64_t{node.is<DeconvAttributes>()}};
  const std::string weight = node.name + ".weight", bias = node.name + ".bias";
  const std::vector<int64_t> dims = onnx_weight_dims(node);
  const auto zeros = [&](const std::vector<float>& scale) {
    return w.int8s(weight + "_zero_point", {std::ssize(scale)}, std::vector<int8_t>(scale.size()));
  };
  if (e.meant_for(OnnxTarget::kTensorRt)) {
    const Tensor levels = onnx_weight_levels(node);
    const std::string values = w.floats(weight, dims, levels.span<float>());
    const std::string scale = channel_scale(w, weight, node.weight_scale);
    const std::string zero = zeros(node.weight_scale);
    const std::string q =
        w.node("QuantizeLinear", weight + "/quantize", {values, scale, zero}, {axis});
    inputs.push_back(w.node("DequantizeLinear", weight + "/dequantize", {q, scale, zero}, {axis}));
    if (node.bias.defined()) inputs.push_back(e.constant(bias, node.bias, {node.bias.numel()}));
    return;
  }
  const IntegerWeight q = integer_weight(node, e.info(node.inputs[0]).scale());
  const std::string values = w.int8s(weight, dims, q.weight);
  const std::string scale = channel_scale(w, weight, q.scale);
  inputs.push_back(
      w.node("DequantizeLinear", weight + "/dequantize", {values, scale, zeros(q.scale)}, {axis}));
  if (node.bias.defined())
    inputs.push_back(w.node("DequantizeLinear", bias + "/dequantize",
                            {w.int32s(bias, q.bias), channel_scale(w, bias, q.bias_scale)},
                            {{"axis", int64_t{0}}}));
}

std::string convolution(OnnxExporter& e, const Node& node, bool integer) {
  OnnxWriter& w = e.writer();
  const bool deconv = node.is<DeconvAttributes>();
  std::vector<std::string> inputs{e.in(node)};
  if (integer) {
    add_integer_weights(e, node, inputs);
  } else {
    inputs.push_back(e.constant(node.name + ".weight", onnx_weight(node), onnx_weight_dims(node)));
    if (node.bias.defined())
      inputs.push_back(e.constant(node.name + ".bias", node.bias, {node.bias.numel()}));
  }
  const std::vector<int64_t> kernel{node.weight.dim(1), node.weight.dim(2)};
  if (deconv)
    return w.node("ConvTranspose", node.name, inputs,
                  {{"kernel_shape", kernel}, {"strides", std::vector<int64_t>{2, 2}}});
  const auto& a = node.as<ConvAttributes>();
  return w.node("Conv", node.name, inputs,
                {{"group", a.groups},
                 {"kernel_shape", kernel},
                 {"pads", std::vector<int64_t>(4, a.padding)},
                 {"strides", std::vector<int64_t>(2, a.stride)}});
}
// x + residual_scale * r, in the order in which fuse() recognises the convolution.
std::string with_residual(OnnxExporter& e, const Node& node, const std::string& x) {
  const float factor = node.as<ConvAttributes>().residual_scale;
  const std::string name = node.name + "/add";
  std::string r = e.scaled(name, e.in(node, 1), factor);
  // TensorRT adds a residual inside a convolution where it comes from a pair. This one loses
  // nothing: the integers are those of the residual itself.
  if (factor != 1.0f && factor != 0.0f && e.meant_for(OnnxTarget::kTensorRt) &&
      runs_in_int8(e.graph(), node) && e.quantized(node.inputs[1]))
    r = e.pair(name + "/residual", r, std::abs(factor) * e.info(node.inputs[1]).amax, false);
  return e.writer().node("Add", name, factor == 1.0f ? std::vector{r, x} : std::vector{x, r});
}

// A convolution, followed by its residual and activation in the node's order.
void export_conv(OnnxExporter& e, const Node& node) {
  const ConvAttributes a = conv_attributes(node);
  const bool integer = e.int8() && runs_in_int8(e.graph(), node);
  std::string x = convolution(e, node, integer);
  const bool rounds = integer && e.quantized(node.output);
  const bool rounds_sums = rounds && e.meant_for(OnnxTarget::kOnnxRuntime);
  const bool linear = a.activation == Activation::kIdentity;
  const TensorInfo& out = e.info(node.output);
  // |conv| where the sum with the residual stays within the output's range
  const float reach = a.residual ? out.amax * (1.0f + std::abs(a.residual_scale)) : out.amax;
  if (a.residual && a.residual_before_activation) {
    if (rounds_sums) x = e.pair(node.name + "/conv", x, reach, false);
    x = with_residual(e, node, x);
  }
  if (!linear) {
    if (rounds_sums && !a.residual && a.activation == Activation::kReLU && !out.is_unsigned)
      // loses nothing, since the output is rounded in the same way
      x = e.pair(node.name + "/conv", x, out.amax, false);
    else if (rounds_sums && !a.residual_before_activation && a.activation != Activation::kReLU)
      x = e.pair(node.name + "/conv", x, reach_before(a.activation, reach), false);
    x = e.activation(node.name + "/act", x, a.activation);
  }
  if (node.gain.defined())
    x = e.writer().node(
        "Mul", node.name + "/gain",
        {x, e.constant(node.name + ".gain", node.gain, {1, node.gain.numel(), 1, 1})});
  if (a.residual && !a.residual_before_activation) {
    // TensorRT's convolutions take in a sum, but not one behind their activation
    if (rounds_sums || (rounds && !linear && e.meant_for(OnnxTarget::kTensorRt)))
      x = e.pair(node.name + "/branch", x, reach, a.activation == Activation::kReLU);
    x = with_residual(e, node, x);
  }
  e.finish(node, x);
}

constexpr OnnxExport kExports[] = {{NodeKind::kConv, export_conv},
                                   {NodeKind::kDeconv, export_conv}};

}  // namespace

OnnxNodes convolution_nodes() { return {kImports, kExports}; }

}  // namespace sextant::deploy
