// SPDX-License-Identifier: Apache-2.0
#include "simt/cases/rep_bn_act_reference.h"

#include <algorithm>

namespace sextant::test {
namespace {

double activation(Activation a, double x) {
  const double s = 1.0 / (1.0 + std::exp(-x));
  switch (a) {
    case Activation::kIdentity:
      return x;
    case Activation::kReLU:
      return std::max(x, 0.0);
    case Activation::kLeakyReLU:
      return x > 0 ? x : double{kernels::kLeakySlope} * x;
    case Activation::kSiLU:
      return x * s;
    case Activation::kHardswish:
      return x * std::clamp(x + 3.0, 0.0, 6.0) / 6.0;
    case Activation::kSigmoid:
      return s;
    case Activation::kMish:
      return x * std::tanh(std::log1p(std::exp(x)));
    case Activation::kReLU6:
      return std::clamp(x, 0.0, 6.0);
    case Activation::kHardSigmoid:
      return std::clamp(x / 6.0 + 0.5, 0.0, 1.0);
  }
  return 0;
}

// By a central difference, which needs no formula; dy is zero at kinks. Error about 1e-10.
double slope(Activation a, double x) {
  const double h = 1e-5;
  return (activation(a, x + h) - activation(a, x - h)) / (2 * h);
}

bool near_kink(double pre) {
  for (const double kink : {-3.0, 0.0, 3.0, 6.0})
    if (std::abs(pre - kink) < 2e-4) return true;
  return false;
}

}  // namespace

RepBnProblem::RepBnProblem(int branches_, int64_t rows_, int64_t channels_, Activation act_,
                           bool training_, DType dtype_)
    : branches(branches_),
      rows(rows_),
      channels(channels_),
      act(act_),
      training(training_),
      dtype(dtype_) {
  const auto random = [&](uint64_t seed, double low, double high) {
    const std::vector<float> v = random_values(rows * channels, seed, low, high);
    return with_type(dtype, [&](auto type) { return rounded<decltype(type)>(v); });
  };
  const uint64_t seed = static_cast<uint64_t>(rows * 1000 + channels * 10 + branches);
  for (int i = 0; i < branches; ++i) {
    const auto b = static_cast<size_t>(i);
    const uint64_t s = seed * 16 + b;
    x[b] = random(s, -1.5, 2.0);
    gamma[b] = random_values(channels, s + 1000, -1.5, 1.5);
    beta[b] = random_values(channels, s + 2000, -0.5, 0.5);
    running_mean[b] = random_values(channels, s + 3000, -0.5, 0.5);
    running_var[b] = random_values(channels, s + 4000, 0.5, 1.5);
  }
  dy = random(seed + 5000, -1.0, 1.0);
  const RepBnReference reference(*this);
  for (size_t i = 0; i < dy.size(); ++i)
    if (near_kink(reference.pre[i])) dy[i] = 0.0f;
}

std::vector<float> RepBnProblem::running_inv_std(int b) const {
  std::vector<float> out;
  for (const float v : running_var[static_cast<size_t>(b)])
    out.push_back(1.0f / std::sqrt(v + eps));
  return out;
}

void RepBnReference::statistics(const RepBnProblem& p, size_t b) {
  const auto channels = static_cast<size_t>(p.channels), rows = static_cast<size_t>(p.rows);
  for (size_t c = 0; c < channels; ++c) {
    double m = p.running_mean[b][c], v = p.running_var[b][c];
    running_mean[b].push_back(m);
    running_var[b].push_back(v);
    if (p.training) {
      double sum = 0, squares = 0;
      for (size_t r = 0; r < rows; ++r) sum += p.x[b][r * channels + c];
      const double n = static_cast<double>(rows), k = p.momentum;
      m = sum / n;
      for (size_t r = 0; r < rows; ++r) squares += std::pow(p.x[b][r * channels + c] - m, 2);
      v = squares / n;
      running_mean[b][c] = (1 - k) * running_mean[b][c] + k * m;
      running_var[b][c] = (1 - k) * running_var[b][c] + k * squares / (n - 1);
    }
    mean[b].push_back(m);
    inv_std[b].push_back(1.0 / std::sqrt(v + double{p.eps}));
  }
}

RepBnReference::RepBnReference(const RepBnProblem& p) {
  for (size_t b = 0; b < static_cast<size_t>(p.branches); ++b) statistics(p, b);
  const auto channels = static_cast<size_t>(p.channels);
  for (size_t i = 0; i < static_cast<size_t>(p.rows) * channels; ++i) {
    const size_t c = i % channels;
    double sum = 0;
    for (size_t b = 0; b < static_cast<size_t>(p.branches); ++b)
      sum += p.gamma[b][c] * (p.x[b][i] - mean[b][c]) * inv_std[b][c] + p.beta[b][c];
    pre.push_back(sum);
    y.push_back(activation(p.act, sum));
  }
  gradients(p);
}

void RepBnReference::gradients(const RepBnProblem& p) {
  const auto channels = static_cast<size_t>(p.channels);
  std::vector<double> g;
  for (size_t i = 0; i < pre.size(); ++i) g.push_back(p.dy[i] * slope(p.act, pre[i]));
  const double n = static_cast<double>(p.rows);
  for (size_t b = 0; b < static_cast<size_t>(p.branches); ++b) {
    const auto normal = [&](size_t i) {
      return (p.x[b][i] - mean[b][i % channels]) * inv_std[b][i % channels];
    };
    dgamma[b].assign(channels, 0.0);
    dbeta[b].assign(channels, 0.0);
    for (size_t i = 0; i < g.size(); ++i) {
      dgamma[b][i % channels] += g[i] * normal(i);
      dbeta[b][i % channels] += g[i];
    }
    for (size_t i = 0; i < g.size(); ++i) {
      const size_t c = i % channels;
      const double centred = g[i] - dbeta[b][c] / n - normal(i) * dgamma[b][c] / n;
      dx[b].push_back(p.gamma[b][c] * inv_std[b][c] * (p.training ? centred : g[i]));
    }
  }
}

}  // namespace sextant::test
