// SPDX-License-Identifier: Apache-2.0
#include "quant/ptq/rounding.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/parallel.h"
#include "kernels/backend.h"

namespace sextant::quant {
namespace {

constexpr float kZeta = 1.1f;
constexpr float kGamma = -0.1f;
constexpr int kBetaStart = 20;
constexpr int kBetaEnd = 2;
constexpr float kFirstDecay = 0.9f;  // of Adam
constexpr float kSecondDecay = 0.999f;
constexpr float kEpsilon = 1e-8f;
constexpr float kFrozen = -20.0f;  // v of a weight that cannot go up: h and its gradient are 0

inline float rectified(float sigmoid) {
  const float h = sigmoid * (kZeta - kGamma) + kGamma;
  return h < 0.0f ? 0.0f : (h > 1.0f ? 1.0f : h);
}

// The number of rows of `width` values that make a thread worthwhile.
int64_t grain(int64_t width) { return std::max<int64_t>(1, 32768 / width); }

// x^n for n in [0, 31].
inline float power(float x, int n) {
  float y = 1.0f;
  for (int bit = 0; bit < 5; ++bit, x *= x)
    if (n >> bit & 1) y *= x;
  return y;
}

class Learner {
 public:
  Learner(const RoundingProblem& p, const RoundingConfig& c) : p_(p), c_(c) {
    m_ = p.weight.dim(0);
    k_ = p.weight.dim(1);
    const int64_t rows = p.inputs.dim(0);
    check(p.inputs.shape() == Shape{rows, k_} && p.targets.shape() == Shape{rows, m_} &&
              static_cast<int64_t>(p.scale.size()) == m_ &&
              static_cast<int64_t>(p.bias.size()) == m_ && rows >= 10,
          "rounding: inputs {}, targets {}, weight {}, {} scales and {} biases do not fit",
          p.inputs.shape().str(), p.targets.shape().str(), p.weight.shape().str(), p.scale.size(),
          p.bias.size());
    check(c.iterations >= 1 && c.batch >= 1, "rounding: {} iterations of {} rows", c.iterations,
          c.batch);
    training_ = rows - rows / 5;
    batch_ = std::min(c.batch, training_);
    low_ = Tensor({m_, k_});
    v_ = Tensor({m_, k_});
    sigmoid_ = Tensor({m_, k_});
    weight_ = Tensor({m_, k_});
    gradient_ = Tensor({m_, k_});
    first_ = Tensor::zeros({m_, k_});
    second_ = Tensor::zeros({m_, k_});
    z_ = Tensor({batch_, m_});
    wanted_ = Tensor({rows, m_});
    activate(p.targets.f32(), wanted_.f32(), rows * m_);
  }

  RoundingResult run() {
    start();
    const Tensor nearest = hard(true);
    unit_ = costs_of_nearest(nearest);
    const auto warm = static_cast<int64_t>(static_cast<double>(c_.iterations) * c_.warm_up);
    for (int64_t t = 0; t < c_.iterations; ++t) {
      const int64_t blocks = training_ / batch_;
      step_gradient(t % blocks * batch_);
      const int64_t annealed = std::max<int64_t>(c_.iterations - 1 - warm, 1);
      const int beta = kBetaStart - static_cast<int>((kBetaStart - kBetaEnd) *
                                                     std::max<int64_t>(t - warm, 0) / annealed);
      step_weights(t + 1, t < warm ? 0.0f : static_cast<float>(c_.regulariser), beta);
    }
    const Tensor learned = hard(false);
    return choose(nearest, learned);
  }

 private:
  void activate(const float* x, float* y, int64_t n) const {
    kernels::dispatch_activation(p_.activation, [&](auto tag) {
      for (int64_t i = 0; i < n; ++i) y[i] = kernels::activate<decltype(tag)::value>(x[i]);
    });
  }

  // v with floor(w / s) + h(v) = w / s.
  void start() {
    for (int64_t m = 0; m < m_; ++m) {
      const float inverse = 1.0f / p_.scale[static_cast<size_t>(m)];
      for (int64_t k = m * k_; k < (m + 1) * k_; ++k) {
        const float x = p_.weight.f32()[k] * inverse;
        const float low = std::clamp(std::floor(x), -127.0f, 127.0f);
        low_.f32()[k] = low;
        const float h = std::clamp(x - low, 0.0f, 1.0f);
        const bool stuck = x <= -127.0f || low >= 127.0f;
        const float s = (std::clamp(h, 0.001f, 0.999f) - kGamma) / (kZeta - kGamma);
        v_.f32()[k] = stuck ? kFrozen : std::log(s / (1.0f - s));
        sigmoid_.f32()[k] = kernels::sigmoid(v_.f32()[k]);
        weight_.f32()[k] = (low + rectified(sigmoid_.f32()[k])) * p_.scale[static_cast<size_t>(m)];
      }
    }
  }

  // Integers times scale, by rounding w / s to nearest or from v.
  Tensor hard(bool nearest) const {
    Tensor w({m_, k_});
    for (int64_t m = 0; m < m_; ++m) {
      const float scale = p_.scale[static_cast<size_t>(m)];
      const float inverse = 1.0f / scale;
      for (int64_t k = m * k_; k < (m + 1) * k_; ++k) {
        const float q = nearest
                            ? std::nearbyint(p_.weight.f32()[k] * inverse)
                            : low_.f32()[k] + (rectified(sigmoid_.f32()[k]) >= 0.5f ? 1.0f : 0.0f);
        w.f32()[k] = std::clamp(q, -127.0f, 127.0f) * scale;
      }
    }
    return w;
  }

  kernels::ConvShape shape(int64_t rows) const { return {.w = rows, .ic = k_, .oc = m_}; }

  // z = inputs w^T + bias for `rows` rows, starting at `begin`.
  void multiply(int64_t begin, int64_t rows, const Tensor& w, const float* bias, float* z) const {
    kernels::backend(Device::kCpu)
        .conv_forward({.shape = shape(rows),
                       .x = p_.inputs.f32() + begin * k_,
                       .w = w.f32(),
                       .bias = bias,
                       .y = z});
  }

  // The cost of rounding to nearest: ((w_nearest - w) x)^2 per channel, mean over the rows.
  std::vector<double> costs_of_nearest(const Tensor& nearest) const {
    Tensor difference({m_, k_});
    for (int64_t i = 0; i < m_ * k_; ++i)
      difference.f32()[i] = nearest.f32()[i] - p_.weight.f32()[i];
    Tensor z({training_, m_});
    multiply(0, training_, difference, nullptr, z.f32());
    std::vector<double> costs(static_cast<size_t>(m_), 0.0);
    for (int64_t r = 0; r < training_; ++r)
      for (int64_t m = 0; m < m_; ++m) {
        const double d = z.f32()[r * m_ + m];
        costs[static_cast<size_t>(m)] += d * d / static_cast<double>(training_);
      }
    return costs;
  }

  // The gradient of the first term with respect to the weights.
  void step_gradient(int64_t begin) {
    multiply(begin, batch_, weight_, p_.bias.data(), z_.f32());
    std::vector<float> factor(static_cast<size_t>(m_));
    for (size_t m = 0; m < factor.size(); ++m)
      factor[m] = unit_[m] > 1e-30 ? static_cast<float>(2.0 * static_cast<double>(k_) /
                                                        (static_cast<double>(batch_) * unit_[m]))
                                   : 0.0f;
    const float* wanted = wanted_.f32() + begin * m_;
    kernels::dispatch_activation(p_.activation, [&](auto tag) {
      constexpr Activation kA = decltype(tag)::value;
      parallel_for(batch_, grain(m_), [&](int64_t from, int64_t to) {
        for (int64_t r = from; r < to; ++r) {
          float* z = z_.f32() + r * m_;
#pragma omp simd
          for (int64_t m = 0; m < m_; ++m)
            z[m] = (kernels::activate<kA>(z[m]) - wanted[r * m_ + m]) *
                   kernels::activate_grad<kA>(z[m]) * factor[static_cast<size_t>(m)];
        }
      });
    });
    kernels::backend(Device::kCpu)
        .conv_backward_weight({.shape = shape(batch_),
                               .x = p_.inputs.f32() + begin * k_,
                               .dy = z_.f32(),
                               .dw = gradient_.f32()});
  }

  // One step of Adam on v, and the resulting soft weights.
  void step_weights(int64_t t, float lambda, int beta) {
    const float first_left = 1.0f - static_cast<float>(std::pow(kFirstDecay, t));
    const float second_left = 1.0f - static_cast<float>(std::pow(kSecondDecay, t));
    const auto rate = static_cast<float>(c_.rate) / first_left;
    const float pull = 2.0f * lambda * static_cast<float>(beta);
    parallel_for(m_, grain(k_), [&](int64_t from, int64_t to) {
      for (int64_t m = from; m < to; ++m) {
        const float scale = p_.scale[static_cast<size_t>(m)];
        float* v = v_.f32() + m * k_;
        float* sig = sigmoid_.f32() + m * k_;
        float* w = weight_.f32() + m * k_;
        float* a = first_.f32() + m * k_;
        float* b = second_.f32() + m * k_;
        const float* low = low_.f32() + m * k_;
        const float* dw = gradient_.f32() + m * k_;
#pragma omp simd
        for (int64_t k = 0; k < k_; ++k) {
          const float h = sig[k] * (kZeta - kGamma) + kGamma;
          const float slope =
              h > 0.0f && h < 1.0f ? (kZeta - kGamma) * sig[k] * (1.0f - sig[k]) : 0.0f;
          const float u = 2.0f * h - 1.0f;
          const float push = power(u < 0.0f ? -u : u, beta - 1) * (u < 0.0f ? pull : -pull);
          const float g = (dw[k] * scale + push) * slope;
          a[k] = kFirstDecay * a[k] + (1.0f - kFirstDecay) * g;
          b[k] = kSecondDecay * b[k] + (1.0f - kSecondDecay) * g * g;
          v[k] -= rate * a[k] / (std::sqrt(b[k] / second_left) + kEpsilon);
          sig[k] = kernels::sigmoid(v[k]);
          w[k] = (low[k] + rectified(sig[k])) * scale;
        }
      }
    });
  }

  // Squared errors of act(z) per channel on the held-out rows.
  std::vector<double> held_out(const Tensor& w) const {
    const int64_t rows = p_.inputs.dim(0) - training_;
    Tensor z({rows, m_});
    multiply(training_, rows, w, p_.bias.data(), z.f32());
    activate(z.f32(), z.f32(), z.numel());
    std::vector<double> errors(static_cast<size_t>(m_), 0.0);
    const float* wanted = wanted_.f32() + training_ * m_;
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t m = 0; m < m_; ++m) {
        const double e = static_cast<double>(z.f32()[r * m_ + m]) - wanted[r * m_ + m];
        errors[static_cast<size_t>(m)] += e * e;
      }
    return errors;
  }

  RoundingResult choose(const Tensor& nearest, const Tensor& learned) const {
    const std::vector<double> before = held_out(nearest);
    const std::vector<double> after = held_out(learned);
    RoundingResult result;
    result.weight = nearest.clone();
    for (int64_t m = 0; m < m_; ++m) {
      const double old = before[static_cast<size_t>(m)];
      const bool better = after[static_cast<size_t>(m)] < old;
      result.nearest += old;
      result.learned += better ? after[static_cast<size_t>(m)] : old;
      if (!better) continue;
      for (int64_t k = m * k_; k < (m + 1) * k_; ++k) {
        result.moved += learned.f32()[k] != nearest.f32()[k];
        result.weight.f32()[k] = learned.f32()[k];
      }
    }
    return result;
  }

  const RoundingProblem& p_;
  const RoundingConfig& c_;
  int64_t m_ = 0, k_ = 0, training_ = 0, batch_ = 0;
  Tensor low_;      // floor(w / s)
  Tensor v_;        // learned
  Tensor sigmoid_;  // of v
  Tensor weight_;   // s (low + h(v))
  Tensor gradient_;
  Tensor first_, second_;  // Adam's moments
  Tensor z_;
  Tensor wanted_;             // act(targets)
  std::vector<double> unit_;  // e_m
};

}  // namespace

int64_t rows_for(const RoundingConfig& config, int64_t weights_per_channel) {
  return std::min(std::max(config.rows, 2 * weights_per_channel), config.max_rows);
}

RoundingResult learn_rounding(const RoundingProblem& problem, const RoundingConfig& config) {
  return Learner(problem, config).run();
}

}  // namespace sextant::quant
