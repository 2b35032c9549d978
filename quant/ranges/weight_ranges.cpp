// SPDX-License-Identifier: Apache-2.0
#include "quant/ranges/weight_ranges.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "core/parallel.h"
#include "deploy/graph/ranges.h"

namespace sextant::quant {
namespace {

constexpr int kCandidates = 61;  // 1.00, 0.99, ... 0.40 of the largest |w|
constexpr int64_t kBlock = 4096;

float largest(std::span<const float> w) {
  float m = 0.0f;
  for (const float v : w) m = std::max(m, std::abs(v));
  return m;
}

double squared_error(std::span<const float> w, float scale) {
  const float inverse = 1.0f / scale;
  double sum = 0.0;
  for (size_t begin = 0; begin < w.size(); begin += kBlock) {
    const size_t end = std::min(w.size(), begin + kBlock);
    float part = 0.0f;
#pragma omp simd reduction(+ : part)
    for (size_t i = begin; i < end; ++i) {
      const float q = std::min(127.0f, std::max(-127.0f, std::nearbyint(w[i] * inverse)));
      const float e = w[i] - q * scale;
      part += e * e;
    }
    sum += part;
  }
  return sum;
}

float choose_scale(std::span<const float> w, bool mse) {
  const float amax = largest(w);
  const float full = deploy::weight_step(amax);
  if (!mse || amax <= deploy::kTinyAmax) return full;
  float best = full;
  double least = squared_error(w, full);
  for (int k = 1; k < kCandidates; ++k) {
    const float scale = full * static_cast<float>(100 - k) / 100.0f;
    const double error = squared_error(w, scale);
    if (error < least) {
      least = error;
      best = scale;
    }
  }
  return best;
}

}  // namespace

std::vector<float> choose_weight_scales(const Tensor& weight, const WeightRangeOptions& options) {
  const bool mse = options.method == WeightMethod::kMse;
  const int64_t channels = weight.dim(0);
  const auto count = static_cast<size_t>(channels);
  const std::span<const float> all = weight.span<float>();
  if (options.per_tensor) return std::vector<float>(count, choose_scale(all, mse));
  std::vector<float> scales(count);
  const size_t inner = all.size() / count;
  parallel_for(channels, 1, [&](int64_t begin, int64_t end) {
    for (auto o = static_cast<size_t>(begin); o < static_cast<size_t>(end); ++o)
      scales[o] = choose_scale(all.subspan(o * inner, inner), mse);
  });
  return scales;
}

void set_weight_scales(deploy::Graph& graph, const WeightRangeOptions& options) {
  for (deploy::Node& node : graph.nodes)
    if (node.has_weight()) node.weight_scale = choose_weight_scales(node.weight, options);
}

}  // namespace sextant::quant
