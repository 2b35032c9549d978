#include "kernels/varifocal.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/parallel.h"
#include "kernels/activation.h"

namespace sextant::kernels::cpu {
namespace {

// Rows are summed in blocks of about this many elements, whatever the number of threads.
constexpr int64_t kBlockElements = 1 << 13;

// block(begin, end) returns the sum over these rows.
template <class Block>
double sum_blocks(const Varifocal& p, const Block& block) {
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

struct Term {
  double loss;
  double grad;
};

// binary_cross_entropy of probabilities with PyTorch's clamps.
Term bce(double p, double q) {
  const double log_p = std::max(std::log(p), -100.0);
  const double log_not_p = std::max(std::log1p(-p), -100.0);
  return {-q * log_p - (1.0 - q) * log_not_p, (p - q) / std::max(p * (1.0 - p), 1e-12)};
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

// alpha p^gamma softplus(z) and its derivative by z, p = sigmoid(z). Branch-free with kSquare
// (gamma is 2).
template <bool kSquare>
inline NegativeTerm negative(float z, float alpha, float gamma) {
  const float e = fast_exp(-std::fabs(z));
  const float larger = 1.0f / (1.0f + e);
  const float smaller = e * larger;
  const float p = z >= 0.0f ? larger : smaller;
  const float not_p = z >= 0.0f ? smaller : larger;
  const float softplus = (z > 0.0f ? z : 0.0f) + log1p_unit(e);
  float weight;
  if constexpr (kSquare)
    weight = alpha * p * p;
  else
    weight = alpha * std::pow(p, gamma);
  return {weight * softplus, weight * (gamma * not_p * softplus + p)};
}

Term positive(double z, double q) {
  const double log1p_e = std::log1p(std::exp(-std::abs(z)));
  const double softplus = std::max(z, 0.0) + log1p_e;         // -log(1 - p)
  const double softplus_minus = std::max(-z, 0.0) + log1p_e;  // -log p
  const double p = 1.0 / (1.0 + std::exp(-z));
  return {q * (q * softplus_minus + (1.0 - q) * softplus), q * (p - q)};
}

template <bool kSquare>
double logits_block(const Varifocal& p, int64_t begin, int64_t end) {
  const auto alpha = static_cast<float>(p.alpha);
  const auto gamma = static_cast<float>(p.gamma);
  const auto scale = static_cast<float>(p.grad_scale);
  const float* z = p.pred + begin * p.classes;
  float* grad = p.grad ? p.grad + begin * p.classes : nullptr;
  const int64_t n = (end - begin) * p.classes;
  double sum = 0.0;
  // All as negatives first; the few positives are put right afterwards.
  if (grad) {
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; ++i) {
      const NegativeTerm t = negative<kSquare>(z[i], alpha, gamma);
      grad[i] = scale * t.grad;
      sum += static_cast<double>(t.loss);
    }
  } else {
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; ++i)
      sum += static_cast<double>(negative<kSquare>(z[i], alpha, gamma).loss);
  }
  for (int64_t r = begin; r < end; ++r) {
    if (p.label[r] < 0) continue;
    const int64_t i = (r - begin) * p.classes + p.label[r];
    const Term t = positive(z[i], p.target[r]);
    sum += t.loss - static_cast<double>(negative<kSquare>(z[i], alpha, gamma).loss);
    if (grad) grad[i] = static_cast<float>(p.grad_scale * t.grad);
  }
  return sum;
}

}  // namespace

double varifocal(const Varifocal& p) {
  return sum_blocks(p, [&](int64_t begin, int64_t end) {
    double sum = 0.0;
    for (int64_t r = begin; r < end; ++r)
      for (int64_t c = 0; c < p.classes; ++c) {
        const int64_t i = r * p.classes + c;
        const double prob = p.pred[i];
        double loss;
        double grad;
        if (c == p.label[r]) {
          const double q = p.target[r];
          const Term t = bce(prob, q);
          loss = q * t.loss;
          grad = q * t.grad;
        } else {
          const Term t = bce(prob, 0.0);
          const double weight = p.alpha * std::pow(prob, p.gamma);
          loss = weight * t.loss;
          grad = weight * t.grad + p.alpha * p.gamma * std::pow(prob, p.gamma - 1.0) * t.loss;
        }
        sum += loss;
        if (p.grad) p.grad[i] = static_cast<float>(p.grad_scale * grad);
      }
    return sum;
  });
}

double varifocal_logits(const Varifocal& p) {
  return sum_blocks(p, [&](int64_t begin, int64_t end) {
    return p.gamma == 2.0 ? logits_block<true>(p, begin, end) : logits_block<false>(p, begin, end);
  });
}

}  // namespace sextant::kernels::cpu
