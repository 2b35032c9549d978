// SPDX-License-Identifier: Apache-2.0
// The terms of kernels/detection/cls_loss.h, one definition for the CPU and CUDA.
#pragma once

#include <cmath>

#include "kernels/detection/cls_loss.h"
#include "kernels/math/activation.h"

namespace sextant::kernels::cls {

// bce(p, t) of one class, p = p(x) for x the probability itself or its logit.
struct Bce {
  double p;
  double not_p;
  double slope;  // dp / dx
  double loss;
  double grad;  // by x
};

SEXTANT_HD double larger(double a, double b) { return a < b ? b : a; }

// With the clamps of PyTorch's binary_cross_entropy.
SEXTANT_HD Bce bce_of_probability(double p, double t) {
  const double log_p = larger(std::log(p), -100.0);
  const double log_not_p = larger(std::log1p(-p), -100.0);
  return {p, 1.0 - p, 1.0, -t * log_p - (1.0 - t) * log_not_p,
          (p - t) / larger(p * (1.0 - p), 1e-12)};
}

SEXTANT_HD Bce bce_of_logit(double z, double t) {
  const double e = std::exp(-std::abs(z));
  const double softplus = larger(z, 0.0) + std::log1p(e);         // -log(1 - p)
  const double softplus_minus = larger(-z, 0.0) + std::log1p(e);  // -log p
  const double p = (z >= 0.0 ? 1.0 : e) / (1.0 + e);
  const double not_p = (z >= 0.0 ? e : 1.0) / (1.0 + e);
  return {p, not_p, p * not_p, t * softplus_minus + (1.0 - t) * softplus, p - t};
}

struct Term {
  double loss;
  double grad;
};

// weight(p) * bce and its derivative; `weight_slope` is d weight / dp.
SEXTANT_HD Term weighted(const Bce& b, double weight, double weight_slope) {
  return {weight * b.loss, weight * b.grad + weight_slope * b.slope * b.loss};
}

// What the class of row r's label is compared with.
SEXTANT_HD double own_target(const ClassLoss& p, int64_t r) {
  return p.type == ClassLossType::kFocal || p.target == nullptr ? 1.0 : p.target[r];
}

SEXTANT_HD double gradient_scale(const ClassLoss& p) {
  return p.divisor == nullptr ? p.grad_scale : p.grad_scale / *p.divisor;
}

SEXTANT_HD double weight_of(const ClassLoss& p, int64_t c) {
  return p.class_weights == nullptr ? 1.0 : static_cast<double>(p.class_weights[c]);
}

// The loss of one class whose target is t; `own` where the class is the row's label.
SEXTANT_HD Term class_term(const ClassLoss& p, const Bce& b, double t, bool own) {
  const double g = p.gamma;
  switch (p.type) {
    case ClassLossType::kVarifocal:
      if (own) return weighted(b, t, 0.0);
      return weighted(b, p.alpha * std::pow(b.p, g), p.alpha * g * std::pow(b.p, g - 1.0));
    case ClassLossType::kFocal:
      if (own)
        return weighted(b, p.alpha * std::pow(b.not_p, g),
                        -p.alpha * g * std::pow(b.not_p, g - 1.0));
      return weighted(b, (1.0 - p.alpha) * std::pow(b.p, g),
                      (1.0 - p.alpha) * g * std::pow(b.p, g - 1.0));
    case ClassLossType::kQualityFocal: {
      const double gap = b.p - t;
      const double slope = g * std::pow(std::abs(gap), g - 1.0);
      return weighted(b, std::pow(std::abs(gap), g), gap < 0.0 ? -slope : slope);
    }
    case ClassLossType::kPoly:
      break;
  }
  const double not_pt = t * b.not_p + (1.0 - t) * b.p;
  return {b.loss + p.epsilon * not_pt, b.grad + p.epsilon * (1.0 - 2.0 * t) * b.slope};
}

// log(1 + t) for t in [0, 1]: 2 atanh(t / (2 + t)), whose series in the square of s <= 1/3 is cut
// where float ends (the next term is below 2e-8 of the first).
SEXTANT_HD float log1p_unit(float t) {
  const float s = t / (2.0f + t);
  const float q = s * s;
  float r = 1.0f / 13.0f;
  r = r * q + 1.0f / 11.0f;
  r = r * q + 1.0f / 9.0f;
  r = r * q + 1.0f / 7.0f;
  r = r * q + 1.0f / 5.0f;
  r = r * q + 1.0f / 3.0f;
  r = r * q + 1.0f;
  return 2.0f * s * r;
}

struct NegativeTerm {
  float loss;
  float grad;
};

// The loss of a class that is not the label: weight p^gamma softplus(z), p = sigmoid(z), or for
// poly softplus(z) + weight p.
enum class Negative { kSquare, kPower, kPoly };  // kSquare: gamma is 2, without a call to pow

struct NegativeParams {
  float weight;
  float gamma;
};

SEXTANT_HD NegativeParams negative_params(const ClassLoss& p) {
  const auto gamma = static_cast<float>(p.gamma);
  switch (p.type) {
    case ClassLossType::kVarifocal:
      return {static_cast<float>(p.alpha), gamma};
    case ClassLossType::kFocal:
      return {static_cast<float>(1.0 - p.alpha), gamma};
    case ClassLossType::kQualityFocal:
      return {1.0f, gamma};
    case ClassLossType::kPoly:
      break;
  }
  return {static_cast<float>(p.epsilon), 0.0f};
}

// Branch-free but for kPower.
template <Negative kKind>
SEXTANT_HD NegativeTerm negative(float z, NegativeParams params) {
  const float e = fast_exp(-std::fabs(z));
  const float larger = 1.0f / (1.0f + e);
  const float smaller = e * larger;
  const float p = z >= 0.0f ? larger : smaller;
  const float not_p = z >= 0.0f ? smaller : larger;
  const float softplus = (z > 0.0f ? z : 0.0f) + log1p_unit(e);
  if constexpr (kKind == Negative::kPoly)
    return {softplus + params.weight * p, p + params.weight * p * not_p};
  float weight;
  if constexpr (kKind == Negative::kSquare)
    weight = params.weight * p * p;
  else
    weight = params.weight * std::pow(p, params.gamma);
  return {weight * softplus, weight * (params.gamma * not_p * softplus + p)};
}

}  // namespace sextant::kernels::cls
