// SPDX-License-Identifier: Apache-2.0
#include "core/values.h"

#include <algorithm>
#include <cmath>

#include "core/convert.h"

namespace sextant {

void check_values(const Tensor& t, const std::string& name, const std::string& where) {
  const Tensor floats = to_f32(t);
  if (floats.dtype() != DType::kF32) return;
  const bool variances = name.ends_with("running_var");
  const float least = variances ? 0.0f : -kLargestValue;
  const auto values = floats.span<float>();
  // False for NaN.
  const auto fits = [&](float v) { return v >= least && v <= kLargestValue; };
  const auto bad = std::ranges::find_if_not(values, fits);
  if (bad == values.end()) return;
  check(std::isfinite(*bad), "{}: tensor '{}' holds {}, must be finite", where, name, *bad);
  fail("{}: tensor '{}' holds {}, must be in [{}, {}]", where, name, *bad, least, kLargestValue);
}

}  // namespace sextant
