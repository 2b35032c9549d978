#include "deploy/integer_rescale.h"

#include <algorithm>
#include <limits>

#include "core/parallel.h"

namespace sextant::deploy {
namespace {

int64_t clamped(int64_t v, int64_t low, int64_t high) {
  return v < low ? low : (v > high ? high : v);
}

template <ResidualPlace where, bool kReduced, class T>
void piecewise_row(const Rescale& s, const int32_t* sums, const T* r, T* y) {
  const int64_t channels = s.channels();
  const int32_t* bias = s.bias.data();
  const int32_t* mantissa = s.mantissa.data();
  const int32_t* fraction = s.fraction.data();
  const int32_t* negative = s.negative.data();
  const int32_t* fraction_negative = s.fraction_negative.data();
  const int32_t* shift = s.shift.data();
  const int64_t* residual = s.residual.data();
  const int64_t* residual_negative = s.residual_negative.data();
  const int64_t zero = s.zero_point, low = s.low, high = s.high;
  const int bits = s.product_bits;
#pragma omp simd
  for (int64_t o = 0; o < channels; ++o) {
    const int32_t v = sums[o] + bias[o];
    int64_t t = int64_t{v} * mantissa[o] + fraction[o];
    int64_t below = int64_t{v} * negative[o] + fraction_negative[o];
    if constexpr (where == ResidualPlace::kBeforeActivation) {
      t += r[o] * residual[o];
      below += r[o] * residual_negative[o];
    }
    int64_t p = t < 0 ? below : t;
    if constexpr (where == ResidualPlace::kAfterActivation) p += r[o] * residual[o];
    if constexpr (kReduced) p = significant(p, bits);
    y[o] = static_cast<T>(clamped(shift_round(p, shift[o]) + zero, low, high));
  }
}

template <ResidualPlace where, class T>
void table_row(const Rescale& s, const int32_t* sums, const T* r, T* y) {
  const int64_t channels = s.channels();
  const int32_t* bias = s.bias.data();
  const int32_t* mantissa = s.mantissa.data();
  const int32_t* fraction = s.fraction.data();
  const int32_t* shift = s.shift.data();
  const int64_t* residual = s.residual.data();
  const int32_t* table = s.table.data();
  const int64_t last = static_cast<int64_t>(s.table.size()) - 1;
  const int64_t first = s.first, zero = s.zero_point, low = s.low, high = s.high;
#pragma omp simd
  for (int64_t o = 0; o < channels; ++o) {
    const int32_t v = sums[o] + bias[o];
    int64_t p = int64_t{v} * mantissa[o] + fraction[o];
    if constexpr (where == ResidualPlace::kBeforeActivation) p += r[o] * residual[o];
    int64_t e = table[clamped(shift_round(p, shift[o]) - first, 0, last)];
    if constexpr (where == ResidualPlace::kAfterActivation) e += r[o] * residual[o];
    y[o] = static_cast<T>(clamped(shift_round(e, kTableBits) + zero, low, high));
  }
}

template <ResidualPlace where, class T>
void all_rows(const Rescale& s, const RescaleRows<T>& p) {
  const int64_t channels = s.channels();
  parallel_for(p.rows, 1 + 8192 / channels, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int32_t* sums = p.sums + i * channels;
      const T* r = where == ResidualPlace::kNone ? nullptr : p.residual + i * p.residual_pitch;
      T* y = p.y + i * p.y_pitch;
      if (s.product_bits > 0)
        piecewise_row<where, true>(s, sums, r, y);
      else if (s.table.empty())
        piecewise_row<where, false>(s, sums, r, y);
      else
        table_row<where>(s, sums, r, y);
    }
  });
}

}  // namespace

int64_t Rescale::bytes() const {
  const size_t small = bias.size() + fraction.size() + mantissa.size() + shift.size() +
                       negative.size() + fraction_negative.size();
  return static_cast<int64_t>(4 * (small + table.size()) +
                              8 * (residual.size() + residual_negative.size()));
}

template <class T>
void rescale_rows(const Rescale& s, const RescaleRows<T>& p) {
  switch (s.where) {
    case ResidualPlace::kNone:
      return all_rows<ResidualPlace::kNone>(s, p);
    case ResidualPlace::kBeforeActivation:
      return all_rows<ResidualPlace::kBeforeActivation>(s, p);
    case ResidualPlace::kAfterActivation:
      return all_rows<ResidualPlace::kAfterActivation>(s, p);
  }
}
template void rescale_rows(const Rescale&, const RescaleRows<uint8_t>&);
template void rescale_rows(const Rescale&, const RescaleRows<int8_t>&);
template void rescale_rows(const Rescale&, const RescaleRows<int32_t>&);

template <class T>
void integer_add(const IntegerAdd<T>& p) {
  parallel_for(p.rows, 1 + 32768 / p.channels, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const T* a = p.a + i * p.a_pitch;
      const T* b = p.b + i * p.b_pitch;
      T* y = p.y + i * p.y_pitch;
#pragma omp simd
      for (int64_t c = 0; c < p.channels; ++c) {
        const int64_t sum = (int64_t{a[c]} << kFactorBits) + b[c] * p.factor;
        y[c] = static_cast<T>(clamped(shift_round(sum, kFactorBits), std::numeric_limits<T>::min(),
                                      std::numeric_limits<T>::max()));
      }
    }
  });
}
template void integer_add(const IntegerAdd<uint8_t>&);
template void integer_add(const IntegerAdd<int8_t>&);

}  // namespace sextant::deploy
