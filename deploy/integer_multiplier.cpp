#include "deploy/integer_multiplier.h"

#include <cmath>

#include "core/error.h"

namespace sextant::deploy {

Multiplier multiplier_of(double factor) {
  check(std::abs(factor) < 0x1p30, "integer: factor {} is no fixed-point multiplier, needs < 2^30",
        factor);
  if (factor == 0) return {};
  int exponent = 0;
  std::frexp(factor, &exponent);  // |factor| in [2^(exponent - 1), 2^exponent)
  Multiplier m;
  m.shift = std::min(31 - exponent, kMaxShift);
  double mantissa = std::nearbyint(std::ldexp(factor, m.shift));
  if (std::abs(mantissa) == 0x1p31) {  // rounded up to the next power of two
    mantissa /= 2;
    --m.shift;
  }
  check(m.shift >= 1, "integer: factor {} is no fixed-point multiplier, needs < 2^30", factor);
  m.mantissa = static_cast<int32_t>(mantissa);
  return m;
}

int64_t addend_of(double factor, int32_t shift) {
  check(std::abs(factor) < 64, "integer: factor {} of an addend, needs to be below 64", factor);
  return static_cast<int64_t>(std::nearbyint(std::ldexp(factor, shift)));
}

}  // namespace sextant::deploy
