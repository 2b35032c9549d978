// SPDX-License-Identifier: Apache-2.0
#include "kernels/detection/dfl.h"

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

#include "core/parallel.h"
#include "kernels/cpu/namespace.h"

namespace sextant::kernels::SEXTANT_CPU {
namespace {

constexpr int64_t kGrain = 64;

template <class T>
T exponential(T x) {
  if constexpr (std::is_same_v<T, float>)
    return fast_exp(x);
  else
    return std::exp(x);
}

// prob = softmax(z); returns its expectation.
template <class T>
T softmax_mean(const float* z, int64_t bins, T* prob) {
  float top = z[0];
  for (int64_t k = 1; k < bins; ++k) top = std::max(top, z[k]);
  T sum = 0;
  T moment = 0;
#pragma omp simd reduction(+ : sum, moment)
  for (int64_t k = 0; k < bins; ++k) {
    const T e = exponential(static_cast<T>(z[k]) - static_cast<T>(top));
    prob[k] = e;
    sum += e;
    moment += e * static_cast<T>(k);
  }
  const T inverse = T(1) / sum;
#pragma omp simd
  for (int64_t k = 0; k < bins; ++k) prob[k] *= inverse;
  return moment * inverse;
}

template <class T>
void each_row(const Expectation<T>& p) {
  parallel_for(p.rows, kGrain, [&](int64_t begin, int64_t end) {
    std::vector<T> scratch(p.prob ? 0 : p.bins);
    for (int64_t r = begin; r < end; ++r) {
      T* prob = p.prob ? p.prob + r * p.bins : scratch.data();
      p.mean[r] = softmax_mean(p.logits + r * p.bins, p.bins, prob);
    }
  });
}

}  // namespace

void expectation(const Expectation<float>& p) { each_row(p); }
void expectation(const Expectation<double>& p) { each_row(p); }

void dfl_loss(const DflLoss& p) {
  parallel_for(p.rows, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      double loss = 0.0;
      for (int64_t i = 0; i < 4; ++i) loss += dfl_side(p, 4 * r + i);
      p.loss[r] = 0.25 * loss;
    }
  });
}

}  // namespace sextant::kernels::SEXTANT_CPU
