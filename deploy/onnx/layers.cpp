// Layers with weights, pools and Q/DQ pairs of an ONNX model.
#include <algorithm>
#include <cmath>

#include "deploy/onnx/importer.h"
#include "deploy/onnx/weights.h"

namespace sextant::deploy {
namespace {

constexpr int64_t kMostWeights = int64_t{1} << 28;

// The range whose step is `scale` to the bit, as TensorInfo::scale() computes it.
float amax_of(float scale, float steps) {
  const float near = scale * steps;
  float candidate = std::nextafter(std::nextafter(near, 0.0f), 0.0f);
  for (int i = 0; i < 5; ++i, candidate = std::nextafter(candidate, INFINITY))
    if (candidate / steps == scale) return candidate;
  return near;
}

}  // namespace

struct OnnxImporter::Weights {
  std::vector<float> values;
  std::vector<int64_t> dims;
  bool quantized = false;
  std::vector<float> scale;  // per output channel; empty: to be chosen
  std::string name;          // of the initializer
};

struct OnnxImporter::Window {
  int64_t stride = 1;
  std::array<int64_t, 2> dilation{1, 1};
  std::array<int64_t, 4> pads{};  // top, left, bottom, right
};

OnnxImporter::Weights OnnxImporter::weights(int i, size_t out_axis) const {
  const OnnxValue& v = input(i);
  check(v.is_constant(), "its weight '{}' is no constant", one_line(now_->input(i)));
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

std::vector<float> OnnxImporter::bias_values(int i, int64_t channels) const {
  if (!has_input(i)) return {};
  const OnnxValue& v = input(i);
  check(v.is_constant(), "its bias '{}' is no constant", one_line(now_->input(i)));
  bool steps = false;
  std::vector<float> b = v.constant ? v.constant->floats() : dequantized(*v.weight, steps);
  if (b.size() == 1) b.assign(static_cast<size_t>(channels), b[0]);
  check(std::ssize(b) == channels, "its bias has {} values for {} channels", b.size(), channels);
  return b;
}

// strides, dilations, pads and auto_pad of a layer that slides over x.
OnnxImporter::Window OnnxImporter::window(const Shape& x, int64_t kernel_h,
                                          int64_t kernel_w) const {
  Window g;
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
  check(automatic == "SAME_UPPER" || automatic == "SAME_LOWER", "auto_pad '{}' is not known",
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

// Adds a convolution of weights [O, I, kh, kw]. What our node does not have goes into the kernel:
// dilation as zeros between its values, unequal padding as zeros around them.
void OnnxImporter::convolution(const OnnxValue& source, Weights w, const Window& g, int64_t groups,
                               std::vector<float> bias) {
  check(source.pending == OnnxValue::Pending::kNone && source.factor == 1.0f, "unexpected input");
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
  node.kind = NodeKind::kConv;
  node.inputs = {source.tensor};
  node.attributes.stride = g.stride;
  node.attributes.padding = padding;
  node.attributes.groups = groups;
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
  const std::string suffix = ".weight";
  result(add(std::move(node), w.name.ends_with(suffix)
                                  ? w.name.substr(0, w.name.size() - suffix.size())
                                  : name_of_node()));
}

void OnnxImporter::conv() {
  OnnxValue x = input(0);
  check(!x.is_constant() && !x.flat, "its input is no image");
  if (x.factor != 1.0f || x.pending != OnnxValue::Pending::kNone) {
    x.tensor = plain(x);
    x.factor = 1.0f;
  }
  Weights w = weights(1, 0);
  check(w.dims.size() == 4, "its weight has {} dimensions; only 2-D layers are known",
        w.dims.size());
  const int64_t groups = integer("group", 1, 1, 1 << 16);
  std::vector<float> bias = bias_values(2, w.dims[0]);
  const Window g = window(shape(x.tensor), w.dims[2], w.dims[3]);
  convolution(x, std::move(w), g, groups, std::move(bias));
}

void OnnxImporter::conv_transpose() {
  const int x = plain(0);
  const Weights w = weights(1, 1);
  const Window g = window(shape(x), 2, 2);
  const auto extra = integers("output_padding", {0, 0}, 0, 64);
  check(w.dims.size() == 4 && w.dims[2] == 2 && w.dims[3] == 2 && g.stride == 2 &&
            g.pads == std::array<int64_t, 4>{} && g.dilation == std::array<int64_t, 2>{1, 1} &&
            integer("group", 1, 1, 1 << 16) == 1 && extra[0] == 0 && extra[1] == 0,
        "only 2x2 kernels with stride 2 and without padding or groups are known");
  Node node;
  node.kind = NodeKind::kDeconv;
  node.inputs = {x};
  node.precision = w.quantized ? Precision::kInt8 : Precision::kFloat32;
  node.weight_scale = w.scale;
  node.weight = iohw_to_ohwi(Tensor::from({w.dims[0], w.dims[1], 2, 2}, w.values));
  const std::vector<float> bias = bias_values(2, w.dims[1]);
  if (!bias.empty()) node.bias = Tensor::from({std::ssize(bias)}, bias);
  result(add(std::move(node),
             w.name.ends_with(".weight") ? w.name.substr(0, w.name.size() - 7) : name_of_node()));
}

// A layer that reads all of its input is a convolution with a kernel as large as that. `w` is
// [O, C * H * W], or its transpose.
void OnnxImporter::fully_connected(Weights w, bool transposed, float alpha,
                                   std::vector<float> bias) {
  const OnnxValue x = input(0);
  check(x.flat && w.dims.size() == 2, "only a matrix [N, K] times a constant matrix is known");
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
  check(w.dims[1] == s[1] * s[2] * s[3], "its weight takes {} values, the input has {}", w.dims[1],
        s[1] * s[2] * s[3]);
  if (alpha != 1.0f) {
    for (float& v : w.values) v *= alpha;
    for (float& v : w.scale) v *= std::abs(alpha);
    if (alpha == 0.0f) w.scale.clear();
  }
  w.dims = {w.dims[0], s[3], s[1], s[2]};
  convolution(source, std::move(w), {}, 1, std::move(bias));
  values_[now_->output(0)].flat = true;
}

void OnnxImporter::gemm() {
  check(integer("transA", 0, 0, 1) == 0, "transA is not known");
  const bool transposed = integer("transB", 0, 0, 1) == 1;
  Weights w = weights(1, transposed ? 0 : 1);
  check(w.dims.size() == 2, "its weight is no matrix");
  std::vector<float> bias = bias_values(2, w.dims[transposed ? 0 : 1]);
  for (float& v : bias) v *= number("beta", 1.0f);
  fully_connected(std::move(w), transposed, number("alpha", 1.0f), std::move(bias));
}

void OnnxImporter::matmul() { fully_connected(weights(1, 1), false, 1.0f, {}); }

void OnnxImporter::batch_norm() {
  const int x = plain(0);
  Node node;
  node.kind = NodeKind::kBatchNorm;
  node.inputs = {x};
  node.attributes.eps = number("epsilon", 1e-5f);
  check(integer("training_mode", 0, 0, 1) == 0, "training_mode is not known");
  for (int i = 1; i <= 4; ++i) {
    const std::vector<float> v = constant_input(i).floats();
    check(std::ssize(v) == shape(x)[3], "{} parameters for {} channels", v.size(), shape(x)[3]);
    if (i == 4)
      for (const float variance : v)
        check(variance + node.attributes.eps > 0, "a variance is {}", variance);
    node.norm.push_back(Tensor::from({std::ssize(v)}, v));
  }
  result(add(std::move(node), name_of_node()), input(0).flat);
}

void OnnxImporter::max_pool() {
  const int x = plain(0);
  const std::vector<int64_t> kernel = integers("kernel_shape", {0, 0}, 1, 64);
  const Window g = window(shape(x), kernel[0], kernel[1]);
  check(kernel[0] >= 1 && kernel[0] == kernel[1] && g.dilation == std::array<int64_t, 2>{1, 1},
        "only square kernels without dilation are known");
  for (const int64_t p : g.pads) check(p == g.pads[0], "only equal padding on all sides is known");
  const auto rest = [&](int d) { return (shape(x)[d] + 2 * g.pads[0] - kernel[0]) % g.stride; };
  check(integer("ceil_mode", 0, 0, 1) == 0 || (rest(1) == 0 && rest(2) == 0),
        "ceil_mode is not known");
  Node node;
  node.kind = NodeKind::kMaxPool;
  node.inputs = {x};
  node.attributes.kernel = kernel[0];
  node.attributes.stride = g.stride;
  node.attributes.padding = g.pads[0];
  result(add(std::move(node), name_of_node()));
}

// A depthwise convolution whose weights are all the same.
void OnnxImporter::average_pool() {
  const OnnxValue x = input(0);
  check(!x.is_constant() && !x.flat && x.factor == 1.0f, "its input is no image");
  const std::vector<int64_t> kernel = integers("kernel_shape", {0, 0}, 1, 64);
  check(kernel[0] >= 1 && kernel[1] >= 1, "kernel_shape is missing");
  const Window g = window(shape(x.tensor), kernel[0], kernel[1]);
  check(integer("count_include_pad", 0, 0, 1) == 1 || g.pads == std::array<int64_t, 4>{},
        "padding that does not count is not known");
  const auto rest = [&](size_t d) {
    return (shape(x.tensor)[static_cast<int>(d) + 1] + g.pads[d] + g.pads[d + 2] + x.zeros[d] +
            x.zeros[d + 2] - kernel[d]) %
           g.stride;
  };
  check(integer("ceil_mode", 0, 0, 1) == 0 || (rest(0) == 0 && rest(1) == 0),
        "ceil_mode is not known");
  const int64_t channels = shape(x.tensor)[3];
  const float share = 1.0f / static_cast<float>(kernel[0] * kernel[1]);
  Weights w;
  w.dims = {channels, 1, kernel[0], kernel[1]};
  w.values.assign(static_cast<size_t>(channels * kernel[0] * kernel[1]), share);
  w.quantized = true;  // exactly, as 127 steps
  convolution(x, std::move(w), g, channels, {});
}

void OnnxImporter::global_average_pool() {
  Node node;
  node.kind = NodeKind::kGlobalAvgPool;
  node.inputs = {plain(0)};
  result(add(std::move(node), name_of_node()));
}

void OnnxImporter::reduce_mean() {
  std::vector<int64_t> axes = integers_or_input("axes", 1);
  for (int64_t& a : axes) a += a < 0 ? 4 : 0;
  std::ranges::sort(axes);
  check(!input(0).flat && axes == std::vector<int64_t>{2, 3}, "only axes 2 and 3 are known");
  global_average_pool();
  values_[now_->output(0)].flat = integer("keepdims", 1, 0, 1) == 0;
}

void OnnxImporter::pad() {
  OnnxValue v = input(0);
  check(!v.is_constant() && !v.flat, "its input is no image");
  v.tensor = plain(v);
  v.factor = 1.0f;
  check(text("mode", "constant") == "constant", "mode '{}' is not known", text("mode", ""));
  const float value = has_input(2) ? constant_input(2).item() : number("value", 0.0f);
  check(value == 0.0f, "only zeros are known, not {}", value);
  const std::vector<int64_t> pads = integers_or_input("pads", 1);
  check(pads.size() == 8 && !has_input(3), "needs begin and end of all four dimensions");
  for (const int64_t p : pads) check(p >= 0 && p <= 64, "pads hold {}", p);
  check(pads[0] == 0 && pads[1] == 0 && pads[4] == 0 && pads[5] == 0,
        "only height and width can be padded");
  v.zeros = {pads[2], pads[3], pads[6], pads[7]};
  result(std::move(v));
}

// ---- Q/DQ

void OnnxImporter::quantize() {
  const OnnxValue v = input(0);
  OnnxQuantized q;
  q.scale = constant_input(1).floats();
  const int type = has_input(2) ? constant_input(2).type() : int{onnx::TensorProto::UINT8};
  check(type == onnx::TensorProto::UINT8 || type == onnx::TensorProto::INT8,
        "only 8-bit integers are known");
  const float low = type == onnx::TensorProto::UINT8 ? 0.0f : -128.0f;
  const float high = low + 255.0f;
  q.zero_point.assign(q.scale.size(), 0);
  if (has_input(2)) q.zero_point = constant_input(2).ints();
  check(q.zero_point.size() == q.scale.size() && !q.scale.empty(),
        "scale and zero point differ in size");
  for (const float s : q.scale) check(s > 0, "a scale is {}", s);
  if (v.is_constant()) {
    check(v.constant != nullptr, "quantizes what is quantized already");
    q.axis = integer("axis", 1, -4, 3);
    if (q.axis < 0) q.axis += std::ssize(v.constant->dims());
    const std::vector<float> w = v.constant->floats();
    int64_t inner = 1;
    const auto& dims = v.constant->dims();
    for (size_t d = static_cast<size_t>(q.axis) + 1; d < dims.size(); ++d) inner *= dims[d];
    std::vector<int64_t> integers(w.size());
    for (size_t i = 0; i < w.size(); ++i) {
      const size_t c = static_cast<size_t>(static_cast<int64_t>(i) / std::max<int64_t>(inner, 1)) %
                       q.scale.size();
      const float r = std::nearbyint(w[i] / q.scale[c]) + static_cast<float>(q.zero_point[c]);
      integers[i] = static_cast<int64_t>(std::clamp(r, low, high));
    }
    OnnxValue constant;
    constant.constant = std::make_shared<OnnxConstant>(OnnxConstant::of(integers, dims));
    constant.constant_name = v.constant_name;
    return result(std::move(constant));
  }
  check(q.scale.size() == 1, "a scale per channel is only known for constants");
  const int tensor = plain(v);
  const float zero = static_cast<float>(q.zero_point[0]);
  float amax = std::max(zero - low, high - zero) * q.scale[0];
  if (zero == low)
    amax = amax_of(q.scale[0], 255.0f);
  else if (zero == low + 128.0f)  // -128 saturates, it is no part of the range
    amax = amax_of(q.scale[0], 127.0f);
  check(std::isfinite(amax) && amax < 1e30f, "a scale is {}", q.scale[0]);
  float& range = graph.tensors[static_cast<size_t>(tensor)].amax;
  range = std::max(range, amax);
  result(tensor, v.flat);
}

void OnnxImporter::dequantize() {
  const OnnxValue v = input(0);
  if (!v.is_constant()) return result(v);  // its QuantizeLinear has told the range
  check(v.constant != nullptr, "dequantizes what is not quantized");
  OnnxQuantized q;
  q.values = *v.constant;
  q.scale = constant_input(1).floats();
  q.zero_point.assign(q.scale.size(), 0);
  if (has_input(2)) q.zero_point = constant_input(2).ints();
  for (const float s : q.scale) check(s > 0, "a scale is {}", s);
  const std::vector<int64_t>& dims = q.values.dims();
  const int64_t rank = std::ssize(dims);
  q.axis = q.scale.size() == 1 ? 0 : integer("axis", 1, -rank, rank - 1);
  if (q.axis < 0) q.axis += rank;
  check(!q.scale.empty() && q.zero_point.size() == q.scale.size() &&
            (q.scale.size() == 1 || dims[static_cast<size_t>(q.axis)] == std::ssize(q.scale)),
        "{} scales and {} zero points do not fit its input", q.scale.size(), q.zero_point.size());
  q.values.ints();  // throws unless it holds integers
  OnnxValue weight;
  weight.weight = std::make_shared<OnnxQuantized>(std::move(q));
  weight.constant_name = v.constant_name;
  result(std::move(weight));
}

}  // namespace sextant::deploy
