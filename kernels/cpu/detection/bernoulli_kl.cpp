// SPDX-License-Identifier: Apache-2.0
#include "kernels/math/bernoulli_kl.h"

#include <algorithm>
#include <vector>

#include "core/parallel.h"
#include "kernels/cpu/namespace.h"

namespace sextant::kernels::SEXTANT_CPU {
namespace {

using namespace scores;

constexpr int64_t kBlock = 4096;  // elements whose sum is taken in one go

ScoreSums block_sums(const ScoreMap& m, double inverse, int64_t begin, int64_t end) {
  ScoreSums sums;
  for (int64_t i = begin; i < end; ++i) {
    const double grad = add_score(static_cast<double>(m.student[i]),
                                  static_cast<double>(m.teacher[i]), inverse, sums);
    if (m.grad != nullptr) m.grad[i] = static_cast<float>(grad);
  }
  return sums;
}

}  // namespace

void bernoulli_kl(const BernoulliKl& p) {
  ScoreSums sums;
  for (int i = 0; i < p.maps; ++i) {
    const ScoreMap& m = p.map[i];
    const int64_t blocks = (m.n + kBlock - 1) / kBlock;
    std::vector<ScoreSums> parts(static_cast<size_t>(blocks));
    parallel_for(blocks, 1, [&](int64_t first, int64_t last) {
      for (int64_t b = first; b < last; ++b)
        parts[static_cast<size_t>(b)] =
            block_sums(m, 1.0 / p.temperature, b * kBlock, std::min(m.n, (b + 1) * kBlock));
    });
    for (const ScoreSums& part : parts) {
      sums.divergence += part.divergence;
      sums.teacher += part.teacher;
    }
  }
  const double factor = factor_of(p, sums);
  *p.loss = static_cast<float>(factor * sums.divergence);
  *p.factor = static_cast<float>(factor);
}

}  // namespace sextant::kernels::SEXTANT_CPU
