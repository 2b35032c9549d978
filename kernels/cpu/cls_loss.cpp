#include "kernels/cls_loss.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "core/parallel.h"
#include "kernels/activation.h"

namespace sextant::kernels {
namespace {
constexpr std::array<const char*, 4> kNames = {"varifocal", "focal", "quality_focal", "poly"};
}

const char* name_of(ClassLossType t) { return kNames[static_cast<size_t>(t)]; }

ClassLossType class_loss_type_from_name(const std::string& name) {
  for (size_t i = 0; i < kNames.size(); ++i)
    if (name == std::string_view(kNames[i])) return static_cast<ClassLossType>(i);
  fail("class loss '{}' is not one of varifocal, focal, quality_focal, poly", name);
}

namespace cpu {
namespace {

// Rows are summed in blocks of about this many elements, whatever the number of threads.
constexpr int64_t kBlockElements = 1 << 13;

// block(begin, end) returns the sum over these rows.
template <class Block>
double sum_blocks(const ClassLoss& p, const Block& block) {
  const int64_t rows = std::max<int64_t>(1, kBlockElements / std::max<int64_t>(1, p.classes));
  const int64_t blocks = (p.rows + rows - 1) / rows;
  std::vector<double> partial(blocks);
  parallel_for(blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b)
      partial[b] = block(b * rows, std::min(p.rows, (b + 1) * rows));
  });
  double sum = 0.0;
  for (const double s : partial) sum += s;
  return sum;
}

// bce(p, t) of one class, p = p(x) for x the probability itself or its logit.
struct Bce {
  double p;
  double not_p;
  double slope;  // dp / dx
  double loss;
  double grad;  // by x
};

// With the clamps of PyTorch's binary_cross_entropy.
Bce bce_of_probability(double p, double t) {
  const double log_p = std::max(std::log(p), -100.0);
  const double log_not_p = std::max(std::log1p(-p), -100.0);
  return {p, 1.0 - p, 1.0, -t * log_p - (1.0 - t) * log_not_p,
          (p - t) / std::max(p * (1.0 - p), 1e-12)};
}

Bce bce_of_logit(double z, double t) {
  const double e = std::exp(-std::abs(z));
  const double softplus = std::max(z, 0.0) + std::log1p(e);         // -log(1 - p)
  const double softplus_minus = std::max(-z, 0.0) + std::log1p(e);  // -log p
  const double p = (z >= 0.0 ? 1.0 : e) / (1.0 + e);
  const double not_p = (z >= 0.0 ? e : 1.0) / (1.0 + e);
  return {p, not_p, p * not_p, t * softplus_minus + (1.0 - t) * softplus, p - t};
}

struct Term {
  double loss;
  double grad;
};

// weight(p) * bce and its derivative; `weight_slope` is d weight / dp.
Term weighted(const Bce& b, double weight, double weight_slope) {
  return {weight * b.loss, weight * b.grad + weight_slope * b.slope * b.loss};
}

// What a label's class is compared with.
double own_target(const ClassLoss& p, double q) {
  return p.type == ClassLossType::kFocal ? 1.0 : q;
}

// The loss of one class whose target is t; `own` where the class is the row's label.
Term class_term(const ClassLoss& p, const Bce& b, double t, bool own) {
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
inline float log1p_unit(float t) {
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

NegativeParams negative_params(const ClassLoss& p) {
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
inline NegativeTerm negative(float z, NegativeParams params) {
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

template <Negative kKind>
double logits_block(const ClassLoss& p, int64_t begin, int64_t end) {
  const NegativeParams params = negative_params(p);
  const auto scale = static_cast<float>(p.grad_scale);
  const float* z = p.pred + begin * p.classes;
  float* grad = p.grad ? p.grad + begin * p.classes : nullptr;
  const int64_t n = (end - begin) * p.classes;
  double sum = 0.0;
  // All as negatives first; the few positives are put right afterwards.
  if (grad) {
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; ++i) {
      const NegativeTerm t = negative<kKind>(z[i], params);
      grad[i] = scale * t.grad;
      sum += static_cast<double>(t.loss);
    }
  } else {
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(negative<kKind>(z[i], params).loss);
  }
  for (int64_t r = begin; r < end; ++r) {
    if (p.label[r] < 0) continue;
    const int64_t i = (r - begin) * p.classes + p.label[r];
    const double target = own_target(p, p.target[r]);
    const Term t = class_term(p, bce_of_logit(z[i], target), target, true);
    sum += t.loss - static_cast<double>(negative<kKind>(z[i], params).loss);
    if (grad) grad[i] = static_cast<float>(p.grad_scale * t.grad);
  }
  return sum;
}

}  // namespace

double class_loss(const ClassLoss& p) {
  return sum_blocks(p, [&](int64_t begin, int64_t end) {
    double sum = 0.0;
    for (int64_t r = begin; r < end; ++r)
      for (int64_t c = 0; c < p.classes; ++c) {
        const int64_t i = r * p.classes + c;
        const bool own = c == p.label[r];
        const double target = own ? own_target(p, p.target[r]) : 0.0;
        const Term t = class_term(p, bce_of_probability(p.pred[i], target), target, own);
        sum += t.loss;
        if (p.grad) p.grad[i] = static_cast<float>(p.grad_scale * t.grad);
      }
    return sum;
  });
}

double class_loss_logits(const ClassLoss& p) {
  return sum_blocks(p, [&](int64_t begin, int64_t end) {
    if (p.type == ClassLossType::kPoly) return logits_block<Negative::kPoly>(p, begin, end);
    return p.gamma == 2.0 ? logits_block<Negative::kSquare>(p, begin, end)
                          : logits_block<Negative::kPower>(p, begin, end);
  });
}

}  // namespace cpu
}  // namespace sextant::kernels
