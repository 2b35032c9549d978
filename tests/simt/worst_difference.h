// SPDX-License-Identifier: Apache-2.0
// How far two lists of tensors lie apart.
#pragma once

#include <algorithm>
#include <cmath>

#include "optim/param_groups.h"
#include "support/support.h"

namespace sextant::test {

// The largest difference of a pair of f32 tensors relative to the largest value in it. A pair whose
// values are below `least` of the largest of all is measured against that: before a batch-norm the
// gradient of a bias is zero but for rounding.
inline double worst_difference(const optim::NamedTensors& a, const optim::NamedTensors& b,
                               double least) {
  REQUIRE(a.size() == b.size());
  const auto largest = [](const Tensor& t) {
    double m = 0;
    for (const float v : t.span<float>()) m = std::max(m, std::abs(static_cast<double>(v)));
    return m;
  };
  double floor = 0, worst = 0;
  for (const auto& [name, t] : b)
    if (t.dtype() == DType::kF32) floor = std::max(floor, least * largest(t));
  for (size_t i = 0; i < a.size(); ++i) {
    REQUIRE(a[i].first == b[i].first);
    if (a[i].second.dtype() != DType::kF32) continue;
    const double d =
        max_difference(a[i].second, b[i].second) / std::max(largest(b[i].second), floor);
    if (!(d <= worst)) UNSCOPED_INFO(a[i].first << " differs by " << d);
    worst = std::isnan(d) ? INFINITY : std::max(worst, d);
  }
  return worst;
}

}  // namespace sextant::test
