// SPDX-License-Identifier: Apache-2.0
#include "kernels/detection/cls_loss.h"

#include <algorithm>
#include <vector>

#include "core/error.h"
#include "core/parallel.h"
#include "kernels/cpu/namespace.h"
#include "kernels/math/cls_loss.h"

namespace sextant::kernels::SEXTANT_CPU {
namespace {

using namespace cls;

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

template <Negative kKind, bool kWeighted>
double logits_block(const ClassLoss& p, int64_t begin, int64_t end) {
  const NegativeParams params = negative_params(p);
  const double wide_scale = gradient_scale(p);
  const auto scale = static_cast<float>(wide_scale);
  const float* z = p.pred + begin * p.classes;
  float* grad = p.grad ? p.grad + begin * p.classes : nullptr;
  const int64_t n = (end - begin) * p.classes;
  double sum = 0.0;
  // First treats all as negatives, then corrects the few positives.
  if constexpr (kWeighted) {
    for (int64_t first = 0; first < n; first += p.classes) {
#pragma omp simd reduction(+ : sum)
      for (int64_t c = 0; c < p.classes; ++c) {
        const NegativeTerm t = negative<kKind>(z[first + c], params);
        if (grad) grad[first + c] = scale * p.class_weights[c] * t.grad;
        sum += static_cast<double>(p.class_weights[c]) * static_cast<double>(t.loss);
      }
    }
  } else if (grad) {
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
    const double target = own_target(p, r);
    const double weight = weight_of(p, p.label[r]);
    const Term t = class_term(p, bce_of_logit(z[i], target), target, true);
    sum += weight * (t.loss - static_cast<double>(negative<kKind>(z[i], params).loss));
    if (grad) grad[i] = static_cast<float>(wide_scale * weight * t.grad);
  }
  return sum;
}

template <Negative kKind>
double block_of(const ClassLoss& p, int64_t begin, int64_t end) {
  return p.class_weights ? logits_block<kKind, true>(p, begin, end)
                         : logits_block<kKind, false>(p, begin, end);
}

}  // namespace

void class_loss(const ClassLoss& p) {
  *p.sum = sum_blocks(p, [&](int64_t begin, int64_t end) {
    const double scale = gradient_scale(p);
    double sum = 0.0;
    for (int64_t r = begin; r < end; ++r)
      for (int64_t c = 0; c < p.classes; ++c) {
        const int64_t i = r * p.classes + c;
        const bool own = c == p.label[r];
        const double target = own ? own_target(p, r) : 0.0;
        const Term t = class_term(p, bce_of_probability(p.pred[i], target), target, own);
        const double weight = weight_of(p, c);
        sum += weight * t.loss;
        if (p.grad) p.grad[i] = static_cast<float>(scale * weight * t.grad);
      }
    return sum;
  });
}

void class_loss_logits(const ClassLoss& p) {
  *p.sum = sum_blocks(p, [&](int64_t begin, int64_t end) {
    if (p.type == ClassLossType::kPoly) return block_of<Negative::kPoly>(p, begin, end);
    return p.gamma == 2.0 ? block_of<Negative::kSquare>(p, begin, end)
                          : block_of<Negative::kPower>(p, begin, end);
  });
}

}  // namespace sextant::kernels::SEXTANT_CPU
