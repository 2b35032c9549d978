// SPDX-License-Identifier: Apache-2.0
// Real factors as integers, which scale the sums of integer products in the fully integer mode.
//
// A factor f is mantissa * 2^-shift, as in gemmlowp and TFLite, and applied as
//   round_half_even(x * mantissa / 2^shift)
// with the exact 64-bit product and one rounding. TFLite's older form rounds twice (a rounding
// doubling high-multiply, then a rounding shift), its newer one rounds ties up; half to even is
// what nearbyint and PyTorch's round do, so ties are rounded like in the float reference.
//
// Any f32 factor whose shift stays within the limit is represented exactly (24 bits in 31). In
// general the mantissa has 31 bits, an error of 2^-31 of the result; a factor below 2^-18 keeps
// fewer, so that the shift stays at kMaxShift: an error of at most 2^-18 of a step for any 32-bit
// x.
#pragma once

#include <bit>
#include <cstdint>

namespace sextant::deploy {

inline constexpr int32_t kMaxShift = 48;

struct Multiplier {
  int32_t mantissa = 0;  // has the factor's sign; 0 only for factors below 2^-49
  int32_t shift = 1;     // 1..kMaxShift

  friend bool operator==(const Multiplier&, const Multiplier&) = default;
};

// Throws Error unless |factor| < 2^30 (and finite). A limit below kMaxShift loses precision of
// small factors.
Multiplier multiplier_of(double factor, int32_t max_shift = kMaxShift);

// factor * 2^shift as an integer, whose multiples by 8-bit values are added to products with that
// shift. Throws Error when it reaches 2^53, above which such a sum might not fit 64 bits.
int64_t addend_of(double factor, int32_t shift);

// round_half_even(p / 2^shift); shift in 1..62, |p| < 2^63 - 2^62.
inline int64_t shift_round(int64_t p, int64_t shift) {
  return (p + ((int64_t{1} << (shift - 1)) - 1) + ((p >> shift) & 1)) >> shift;
}

// p rounded to `bits` significant bits, half to even, as in a float format with a mantissa of that
// size (24: f32).
inline int64_t significant(int64_t p, int bits) {
  const auto magnitude = static_cast<uint64_t>(p < 0 ? -p : p);
  const int excess = static_cast<int>(std::bit_width(magnitude)) - bits;
  return excess <= 0 ? p : shift_round(p, excess) << excess;
}

inline int64_t multiply(int32_t x, Multiplier m) {
  return shift_round(int64_t{x} * m.mantissa, m.shift);
}

}  // namespace sextant::deploy
