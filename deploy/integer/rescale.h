// SPDX-License-Identifier: Apache-2.0
// Rescales the sums of a convolution to the integers of its result, in integers only.
//
// Per output channel o, with v = sum + bias[o], r the integer of a residual, and everything 64-bit:
//
//   t = v * mantissa[o] + fraction[o]   (+ r * residual[o], when it comes before the activation)
//   no table:
//     p = t < 0 ? v * negative[o] + fraction_negative[o] (+ r * residual_negative[o]) : t
//     y = clamp(shift_round(p (+ r * residual[o], after), shift[o]) + zero_point, low, high)
//   with a table:
//     at = clamp(shift_round(t, shift[o]) - first, 0, the table's end), in 2^-kIndexBits entries
//     e = the table there, linearly between two entries
//         (then with gains shift_round(e * gain[o], kGainBits))
//     y = clamp(shift_round(e (+ r * residual[o], after), kTableBits + kIndexBits) + zero_point,
//               low, high)
//
// `negative` is the mantissa below zero: the same for the identity, 0 for ReLU, the slope times it
// for leaky ReLU. Other activations are tabulated, in steps of 2^-kTableBits of the result's.
// `fraction` is the remainder of rounding the bias to whole units of the sum, at most half a
// mantissa.
#pragma once

#include <cstdint>
#include <vector>

#include "deploy/graph/node_kinds.h"
#include "deploy/integer/multiplier.h"

namespace sextant::deploy {

inline constexpr int32_t kTableBits = 16;
inline constexpr int32_t kIndexBits = 8;
inline constexpr int32_t kGainBits =
    14;  // gains are 1 to 1024: a product with an entry fits 62 bits

// All members are integers.
struct Rescale {
  std::vector<int32_t> bias;
  std::vector<int32_t> mantissa, shift;  // Multiplier, per channel
  std::vector<int32_t> fraction;
  std::vector<int32_t> negative, fraction_negative;  // without a table
  ResidualPlace where = ResidualPlace::kNone;
  std::vector<int64_t> residual, residual_negative;
  std::vector<int64_t> gain;   // with a table: empty, or in 2^-kGainBits
  std::vector<int32_t> table;  // the last entry is stored twice
  int64_t first = 0;           // position of the first entry, in 2^-kIndexBits entries
  int32_t zero_point = 0;
  int32_t low = 0, high = 255;
  // If not 0, p is first rounded to this many significant bits. 24 reproduces a reference that
  // multiplies in f32, even where f32 rounds a product onto a tie.
  int32_t product_bits = 0;

  int64_t channels() const { return static_cast<int64_t>(mantissa.size()); }
  int64_t bytes() const;
};

// `y` and `residual` (of y's type; null without one) may have a pitch, in elements; `sums` is
// dense.
template <class T>
struct RescaleRows {
  const int32_t* sums = nullptr;
  const T* residual = nullptr;
  T* y = nullptr;
  int64_t rows = 0;
  int64_t residual_pitch = 0, y_pitch = 0;
};
template <class T>
void rescale_rows(const Rescale& s, const RescaleRows<T>& p);  // uint8_t, int8_t, int32_t

// y = clamp(round_half_even(a + factor b)), saturating at T's limits; factor in 2^-kFactorBits.
inline constexpr int32_t kFactorBits = 24;
template <class T>
struct IntegerAdd {
  const T* a = nullptr;
  const T* b = nullptr;
  T* y = nullptr;
  int64_t rows = 0, channels = 0;
  int64_t a_pitch = 0, b_pitch = 0, y_pitch = 0;  // elements
  int64_t factor = int64_t{1} << kFactorBits;
};
template <class T>
void integer_add(const IntegerAdd<T>& p);  // uint8_t, int8_t

}  // namespace sextant::deploy
