// SPDX-License-Identifier: Apache-2.0
#include "quant/ptq/split_identity.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "deploy/graph/ranges.h"

namespace sextant::quant {
namespace {

using deploy::Node;

constexpr double kLeastGain = 2.0;  // minimum reduction of the noise power

// A weight with equal input and output channels, split into its diagonal and the rest.
class Centre {
 public:
  explicit Centre(const Tensor& weight) : weight_(weight), off_(channels()), on_(channels()) {
    const int64_t n = weight.numel() / weight.dim(0);
    for (int64_t o = 0; o < weight.dim(0); ++o)
      for (int64_t i = 0; i < n; ++i) {
        const double w = static_cast<double>(weight.f32()[o * n + i]);
        if (o * n + i == at(o))
          on_[static_cast<size_t>(o)] = w;
        else
          off_[static_cast<size_t>(o)] = std::max(off_[static_cast<size_t>(o)], std::abs(w));
      }
  }

  double noise(double a) const {
    double sum = 0;
    for (size_t o = 0; o < on_.size(); ++o) {
      const double largest = std::max(off_[o], std::abs(on_[o] - a));
      sum += largest * largest;
    }
    return sum;
  }

  // Golden-section search: noise() is convex.
  float best() const {
    auto [left, right] = std::ranges::minmax(on_);
    constexpr double kRatio = 0.6180339887498949;
    for (int i = 0; i < 80; ++i) {
      const double a = right - kRatio * (right - left), b = left + kRatio * (right - left);
      if (noise(a) <= noise(b))
        right = b;
      else
        left = a;
    }
    return static_cast<float>((left + right) / 2);
  }

  Tensor without(float a) const {
    Tensor w = weight_.clone();
    for (int64_t o = 0; o < weight_.dim(0); ++o) w.f32()[at(o)] -= a;
    return w;
  }

 private:
  size_t channels() const { return static_cast<size_t>(weight_.dim(0)); }
  int64_t at(int64_t o) const {
    const Shape& s = weight_.shape();
    return ((o * s[1] + s[1] / 2) * s[2] + s[2] / 2) * s[3] + o;
  }

  Tensor weight_;
  std::vector<double> off_, on_;  // by channel: the largest off the diagonal, and the diagonal
};

bool keeps_shape(const Node& node) {
  if (!node.is<deploy::ConvAttributes>()) return false;
  const Shape& w = node.weight.shape();
  const auto& a = node.as<deploy::ConvAttributes>();
  return !a.residual && a.stride == 1 && a.groups == 1 && w[0] == w[3] && w[1] == w[2] &&
         w[1] % 2 == 1 && a.padding == w[1] / 2;
}

}  // namespace

deploy::Graph split_identity(const deploy::Graph& graph, SplitReport* report) {
  deploy::Graph grouped = graph;
  deploy::unify_ranges(grouped);
  const std::vector<bool> wanted = deploy::groups_to_quantize(grouped);
  const auto info = [&](int t) { return grouped.tensors[static_cast<size_t>(t)]; };
  const auto can_share = [&](int x, int y) {
    return x != graph.input && wanted[static_cast<size_t>(info(x).group)] &&
           wanted[static_cast<size_t>(info(y).group)] && info(x).is_unsigned == info(y).is_unsigned;
  };
  deploy::Graph result = graph;
  SplitReport r;
  for (Node& node : result.nodes) {
    if (!keeps_shape(node) || !can_share(node.inputs[0], node.output)) continue;
    const Centre centre(node.weight);
    const float a = centre.best();
    const double gain = centre.noise(0) / centre.noise(static_cast<double>(a));
    if (!(gain >= kLeastGain)) continue;
    node.weight = centre.without(a);
    node.inputs.push_back(node.inputs[0]);
    auto& attributes = node.as<deploy::ConvAttributes>();
    attributes.residual = attributes.residual_before_activation = true;
    attributes.residual_scale = a;
    ++r.layers;
    r.gain_db += 10 * std::log10(gain);
  }
  if (r.layers > 0) r.gain_db /= static_cast<double>(r.layers);
  if (report) *report = r;
  return result;
}

}  // namespace sextant::quant
