// SPDX-License-Identifier: Apache-2.0
#include "deploy/integer/multiplier.h"

#include <cmath>

#include "core/error.h"

namespace sextant::deploy {

Multiplier multiplier_of(double factor, int32_t max_shift) {
  check(std::abs(factor) < 0x1p30,
        "integer: factor {} must be below 2^30 for a fixed-point multiplier", factor);
  if (factor == 0) return {};
  int exponent = 0;
  std::frexp(factor, &exponent);  // |factor| in [2^(exponent - 1), 2^exponent)
  Multiplier m;
  m.shift = std::min(31 - exponent, max_shift);
  double mantissa = std::nearbyint(std::ldexp(factor, m.shift));
  if (std::abs(mantissa) == 0x1p31) {  // rounded up to the next power of two
    mantissa /= 2;
    --m.shift;
  }
  check(m.shift >= 1, "integer: factor {} must be below 2^30 for a fixed-point multiplier", factor);
  m.mantissa = static_cast<int32_t>(mantissa);
  return m;
}

int64_t addend_of(double factor, int32_t shift) {
  const double scaled = std::ldexp(factor, shift);
  check(std::abs(scaled) < 0x1p53, "integer: factor {} of an addend is too large for shift {}",
        factor, shift);
  return static_cast<int64_t>(std::nearbyint(scaled));
}

}  // namespace sextant::deploy
