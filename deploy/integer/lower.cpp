// SPDX-License-Identifier: Apache-2.0
#include "deploy/integer/lower.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "deploy/graph/conv_layers.h"
#include "deploy/graph/node_rules.h"
#include "deploy/graph/ranges.h"
#include "deploy/integer/decode.h"

namespace sextant::deploy {
namespace {

constexpr double kLargestBias = 0x1p30;
constexpr int64_t kTableSteps = 4;   // entries of a table in one step of its result
constexpr int32_t kTableShift = 40;  // room for a residual in 2^-kIndexBits entries
constexpr int64_t kLargestTable = 1 << 16;
constexpr double kFlat = 1.0 / 64;  // steps: a table ends where the rest varies by less

double activate(Activation a, double x) { return kernels::activate(a, static_cast<float>(x)); }

// Gains on top of `base` go up to this (kGainBits).
constexpr double kLargestGain = 1024;

// Tabulates the activation in `step`s of the result until it is flat or saturated, with entries for a
// result that is then multiplied by up to `gain`. Returns the step of its argument.
double make_table(const RealConv& real, double step, double gain, Rescale& s) {
  const double f = std::abs(real.residual_scale);
  const double reach = real.residual == ResidualPlace::kAfterActivation ? 1 + f : 1;
  const double enough = (reach * (real.high - real.low) + 1) * step;
  double left = -64, right = 1e-3;
  while (left < 0 && std::abs(activate(real.activation, left)) <= kFlat * step) left += 1.0 / 64;
  left -= 1.0 / 64;
  const double top = kernels::traits_of(real.activation).limit - kFlat * step;
  while (activate(real.activation, right) < std::min(enough, top) && right < 1e30) right *= 1.05;
  double unit = step / (kTableSteps * gain);
  while ((right - left) / unit > kLargestTable - 2) unit *= 2;
  const int64_t first = static_cast<int64_t>(std::floor(left / unit));
  const int64_t last = static_cast<int64_t>(std::ceil(right / unit));
  for (int64_t i = first; i <= last; ++i) {
    const double y = activate(real.activation, static_cast<double>(i) * unit) / step;
    s.table.push_back(static_cast<int32_t>(
        std::nearbyint(std::clamp(std::ldexp(y, kTableBits), -0x1p29, 0x1p29))));
  }
  s.table.push_back(s.table.back());
  s.first = first << kIndexBits;
  unit = std::ldexp(unit, -kIndexBits);
  return unit;
}

constexpr int32_t kToSigned = 128;

// The stored integer that represents a weight of 0.
int32_t zero_of(const RealConv& real) {
  return real.weight_zero_point ? *real.weight_zero_point - kToSigned : 0;
}

int8_t quantized(const RealConv& real, float w, float scale) {
  if (!real.weight_zero_point)
    return static_cast<int8_t>(std::clamp(std::nearbyint(w / scale), -127.0f, 127.0f));
  const float q = std::nearbyint(static_cast<float>(*real.weight_zero_point) + w / scale);
  return static_cast<int8_t>(static_cast<int32_t>(std::clamp(q, 0.0f, 255.0f)) - kToSigned);
}

std::vector<int8_t> quantized_weight(const RealConv& real) {
  if (!real.weight_zero_point) return quantize_weight(real.weight, real.weight_scale);
  const int64_t n = real.weight.numel() / real.weight.dim(0);
  std::vector<int8_t> q;
  for (int64_t i = 0; i < real.weight.numel(); ++i)
    q.push_back(
        quantized(real, real.weight.f32()[i], real.weight_scale[static_cast<size_t>(i / n)]));
  return q;
}

}  // namespace

Rescale lower_conv(const RealConv& real, IntegerConv& p) {
  const int64_t channels = real.weight.dim(0);
  const int64_t n = real.weight.numel() / channels;
  Rescale s;
  s.where = real.residual;
  s.zero_point = real.destination.zero_point;
  s.low = real.low;
  s.high = real.high;
  const bool linear = kernels::traits_of(real.activation).homogeneous;
  const double slope = -activate(real.activation, -1.0);  // of the activation below zero
  const auto gain_of = [&](int64_t o) {
    return real.gain.defined() ? static_cast<double>(real.gain.f32()[o]) : 1.0;
  };
  double least = gain_of(0), most = gain_of(0);
  for (int64_t o = 1; o < channels; ++o) {
    least = std::min(least, gain_of(o));
    most = std::max(most, gain_of(o));
  }
  const double base = std::max(least, most / kLargestGain);
  const double unit = linear ? real.destination.scale
                             : make_table(real, real.destination.scale / base, most / base, s);

  std::vector<float> weight_scale = real.weight_scale;
  std::vector<int8_t> q = quantized_weight(real);
  for (int64_t o = 0; o < channels; ++o) {
    float& scale = weight_scale[static_cast<size_t>(o)];
    const double bias = real.bias.defined() ? real.bias.f32()[o] : 0.0;
    const auto* begin = q.data() + o * n;
    const bool zero = std::all_of(begin, begin + n, [&](int8_t w) { return w == zero_of(real); });
    if (zero) scale = static_cast<float>(std::ldexp(unit, -16) / real.source.scale);
    const float before = scale;
    while (std::abs(bias / (real.source.scale * scale)) > kLargestBias) scale *= 2;
    if (scale != before && !zero)
      for (int64_t i = o * n; i < (o + 1) * n; ++i)
        q[static_cast<size_t>(i)] = quantized(real, real.weight.f32()[i], scale);
    const double sum_step = real.source.scale * scale;
    const double whole = std::nearbyint(bias / sum_step);
    if (!linear && real.gain.defined())
      s.gain.push_back(std::llrint(std::ldexp(gain_of(o) / base, kGainBits)));
    const double gain = linear ? gain_of(o) : 1.0;
    const Multiplier m = multiplier_of(sum_step * gain / unit, linear ? kMaxShift : kTableShift);
    const double fraction = (bias / sum_step - whole) * m.mantissa;
    s.bias.push_back(static_cast<int32_t>(whole));
    s.fraction.push_back(static_cast<int32_t>(std::nearbyint(fraction)));
    s.mantissa.push_back(m.mantissa);
    s.shift.push_back(m.shift);
    if (linear) {
      s.negative.push_back(static_cast<int32_t>(std::nearbyint(slope * m.mantissa)));
      s.fraction_negative.push_back(static_cast<int32_t>(std::nearbyint(slope * fraction)));
    }
    if (real.residual == ResidualPlace::kNone) continue;
    // behind a table the residual is added in the table's steps, otherwise in the product's
    const bool after = real.residual == ResidualPlace::kAfterActivation;
    const double ratio = after ? 1.0 : real.destination.scale * gain / unit;
    const int64_t r = addend_of(real.residual_scale * ratio,
                                after && !linear ? kTableBits + kIndexBits : m.shift);
    s.residual.push_back(r);
    s.residual_negative.push_back(
        static_cast<int64_t>(std::nearbyint(slope * static_cast<double>(r))));
  }
  p.weight = Tensor::from(real.weight.shape(), q);
  p.zero_point = real.source.zero_point;
  p.weight_zero_point = zero_of(real);
  const int64_t largest = largest_sum(p, real.source_low, real.source_high);
  check(largest + static_cast<int64_t>(kLargestBias) <= std::numeric_limits<int32_t>::max(),
        "integer: the sums of a convolution with weight {} can overflow 32 bits",
        real.weight.shape().str());
  return s;
}

namespace {

bool has_integer_form(const Graph& graph, const Node& node) {
  const auto ranged = [&](int t) { return graph.tensors[static_cast<size_t>(t)].has_range(); };
  if (node.has_weight())
    return runs_in_int8(graph, node) && (!node.has_residual() || ranged(node.output));
  const auto fits = [&](int t) {
    switch (rules_of(node).integer) {
      case IntegerRule::kRanges:
        return ranged(t) && ranged(node.output);
      case IntegerRule::kMoves:
        return ranged(t) == ranged(node.output);
      case IntegerRule::kReads:
        return true;
    }
    return false;
  };
  return std::ranges::all_of(node.inputs, fits);
}

}  // namespace

void check_integer(const Graph& graph) {
  for (const Node& node : graph.nodes)
    check(has_integer_form(graph, node),
          "{}: node '{}' is in float; the integer mode needs every layer in int8", graph.label(),
          node.name);
}

Rescale lower_node(const Graph& graph, const Node& node, const std::vector<Shape>& shapes,
                   IntegerConv& p) {
  const ConvForm form(node);
  const ConvAttributes& a = form.attributes;
  const auto info = [&](int t) -> const TensorInfo& {
    return graph.tensors[static_cast<size_t>(t)];
  };
  const Shape& in = shapes[static_cast<size_t>(node.inputs[0])];
  const Shape& out = form.scattered ? in : shapes[static_cast<size_t>(node.output)];
  p = IntegerConv{};
  p.batch = in[0];
  p.height = in[1];
  p.width = in[2];
  p.out_height = out[1];
  p.out_width = out[2];
  p.stride = a.stride;
  p.padding = a.padding;
  p.groups = a.groups;
  const TensorInfo& x = info(node.inputs[0]);
  const TensorInfo& y = info(node.output);
  RealConv real;
  real.weight = form.weight;
  real.bias = form.bias;
  real.gain = form.gain;
  real.weight_scale = form.weight_scale;
  real.source = {x.scale(), 0};
  real.source_low = x.is_unsigned ? 0 : -128;
  real.source_high = x.is_unsigned ? 255 : 127;
  real.destination = {integer_scale(graph, node.output), 0};
  real.low = y.is_unsigned ? 0 : -128;
  real.high = y.is_unsigned ? 255 : 127;
  if (!y.has_range()) {
    real.low = std::numeric_limits<int32_t>::min();
    real.high = std::numeric_limits<int32_t>::max();
  }
  real.activation = a.activation;
  real.residual_scale = a.residual_scale;
  real.residual = a.residual_place();
  try {
    return lower_conv(real, p);
  } catch (const Error& e) {
    fail("{}: node '{}': {}", graph.label(), node.name, e.what());
  }
}

double integer_scale(const Graph& graph, int tensor) {
  const TensorInfo& info = graph.tensors[static_cast<size_t>(tensor)];
  if (info.has_range()) return info.scale();
  const bool result = graph.decode() && tensor == graph.output;
  return std::ldexp(1.0, result ? -kResultBits : -kHeadBits);
}

}  // namespace sextant::deploy
