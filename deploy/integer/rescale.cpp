// SPDX-License-Identifier: Apache-2.0
#include "deploy/integer/rescale.h"

#include <algorithm>
#include <limits>

#include "core/parallel.h"

namespace sextant::deploy {
namespace {

// The shift of each channel in a form that vectorizes: shift_round(p, shift) is
// (p + rounding + (p >> shift & 1)) >> shift.
struct Shifts {
  std::vector<int64_t> shift, rounding;

  Shifts() = default;
  explicit Shifts(const std::vector<int32_t>& shifts) {
    for (const int32_t each : shifts) {
      shift.push_back(each);
      rounding.push_back((int64_t{1} << (each - 1)) - 1);
    }
  }
};

// Rounding of the product and, with a table, of the result.
struct AllShifts {
  Shifts product, last;

  explicit AllShifts(const Rescale& s)
      : product(s.shift),
        last(s.table.empty() ? s.shift
                             : std::vector<int32_t>(s.shift.size(), kTableBits + kIndexBits)) {}
};

// Channels of one pixel, in passes over a few numbers at a time: loops with a single type
// vectorize.
constexpr int64_t kBlock = 64;

template <class T>
class Block {
 public:
  Block(const Rescale& rescale, int64_t first, int64_t count) : s_(rescale), o_(first), n_(count) {}

  // t_ = v * mantissa + fraction, with the other parameters where it is below zero
  void multiply(const int32_t* sums) {
    const int32_t* bias = s_.bias.data() + o_;
    product(sums, bias, s_.mantissa.data() + o_, s_.fraction.data() + o_, t_);
    if (s_.table.empty())
      product(sums, bias, s_.negative.data() + o_, s_.fraction_negative.data() + o_, below_);
  }
  void add_before(const T* r) {
    add(r, s_.residual.data() + o_, t_);
    if (s_.table.empty()) add(r, s_.residual_negative.data() + o_, below_);
  }
  void activate(const AllShifts& shifts) {
    if (!s_.table.empty()) {
      look_up(shifts);
      for (int64_t i = 0; !s_.gain.empty() && i < n_; ++i)
        t_[i] = shift_round(t_[i] * s_.gain[static_cast<size_t>(o_ + i)], kGainBits);
      return;
    }
#pragma omp simd
    for (int64_t i = 0; i < n_; ++i) t_[i] = t_[i] < 0 ? below_[i] : t_[i];
  }
  void add_after(const T* r) { add(r, s_.residual.data() + o_, t_); }
  void finish(const AllShifts& shifts, T* y) {
    if (s_.product_bits > 0)
      for (int64_t i = 0; i < n_; ++i) t_[i] = significant(t_[i], s_.product_bits);
    const int64_t* shift = shifts.last.shift.data() + o_;
    const int64_t* rounding = shifts.last.rounding.data() + o_;
    const int64_t zero = s_.zero_point, low = s_.low, high = s_.high;
#pragma omp simd
    for (int64_t i = 0; i < n_; ++i) {
      const int64_t odd = (t_[i] >> shift[i]) & 1;
      const int64_t q = ((t_[i] + rounding[i] + odd) >> shift[i]) + zero;
      t_[i] = q < low ? low : (q > high ? high : q);
    }
#pragma omp simd
    for (int64_t i = 0; i < n_; ++i) y[i] = static_cast<T>(t_[i]);
  }

 private:
  void product(const int32_t* sums, const int32_t* bias, const int32_t* mantissa,
               const int32_t* fraction, int64_t* __restrict out) const {
#pragma omp simd
    for (int64_t i = 0; i < n_; ++i)
      out[i] = static_cast<int64_t>(sums[i] + bias[i]) * mantissa[i] + fraction[i];
  }
  void add(const T* r, const int64_t* factor, int64_t* __restrict out) const {
#pragma omp simd
    for (int64_t i = 0; i < n_; ++i) out[i] += r[i] * factor[i];
  }
  // Linear between two entries; the last entry is stored twice.
  void look_up(const AllShifts& shifts) {
    const int64_t* shift = shifts.product.shift.data() + o_;
    const int64_t* rounding = shifts.product.rounding.data() + o_;
    const int64_t first = s_.first;
    const int64_t last = (static_cast<int64_t>(s_.table.size()) - 2) << kIndexBits;
#pragma omp simd
    for (int64_t i = 0; i < n_; ++i) {
      const int64_t odd = (t_[i] >> shift[i]) & 1;
      const int64_t at = ((t_[i] + rounding[i] + odd) >> shift[i]) - first;
      t_[i] = at < 0 ? 0 : (at > last ? last : at);
    }
    int32_t index[kBlock], rest[kBlock];
#pragma omp simd
    for (int64_t i = 0; i < n_; ++i) {
      index[i] = static_cast<int32_t>(t_[i]) >> kIndexBits;
      rest[i] = static_cast<int32_t>(t_[i]) & ((1 << kIndexBits) - 1);
    }
    const int32_t* table = s_.table.data();
    int32_t from[kBlock], to[kBlock];
#pragma omp simd
    for (int64_t i = 0; i < n_; ++i) {
      from[i] = table[index[i]];
      to[i] = table[index[i] + 1];
    }
#pragma omp simd
    for (int64_t i = 0; i < n_; ++i)
      t_[i] = (static_cast<int64_t>(from[i]) << kIndexBits) +
              static_cast<int64_t>(to[i] - from[i]) * rest[i];
  }

  const Rescale& s_;
  const int64_t o_, n_;
  int64_t t_[kBlock];
  int64_t below_[kBlock];
};

// The common case, without residual and table, in one pass: nearly twice as fast.
template <class T>
void plain_block(const Rescale& s, const AllShifts& shifts, int64_t o, int64_t n,
                 const int32_t* sums, T* y) {
  const int32_t* bias = s.bias.data() + o;
  const int32_t* mantissa = s.mantissa.data() + o;
  const int32_t* fraction = s.fraction.data() + o;
  const int32_t* negative = s.negative.data() + o;
  const int32_t* fraction_negative = s.fraction_negative.data() + o;
  const int64_t* shift = shifts.last.shift.data() + o;
  const int64_t* rounding = shifts.last.rounding.data() + o;
  const int64_t zero = s.zero_point, low = s.low, high = s.high;
  int64_t out[kBlock];
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const int64_t v = sums[i] + bias[i];
    const int64_t t = v * mantissa[i] + fraction[i];
    const int64_t below = v * negative[i] + fraction_negative[i];
    const int64_t p = t < 0 ? below : t;
    const int64_t odd = (p >> shift[i]) & 1;
    const int64_t q = ((p + rounding[i] + odd) >> shift[i]) + zero;
    out[i] = q < low ? low : (q > high ? high : q);
  }
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] = static_cast<T>(out[i]);
}

template <class T>
void rescale_row(const Rescale& s, const AllShifts& shifts, const int32_t* sums, const T* r, T* y) {
  const int64_t channels = s.channels();
  const bool plain = s.where == ResidualPlace::kNone && s.table.empty() && s.product_bits == 0;
  for (int64_t o = 0; o < channels; o += kBlock) {
    const int64_t n = std::min(kBlock, channels - o);
    if (plain) {
      plain_block(s, shifts, o, n, sums + o, y + o);
      continue;
    }
    Block<T> block(s, o, n);
    block.multiply(sums + o);
    if (s.where == ResidualPlace::kBeforeActivation) block.add_before(r + o);
    block.activate(shifts);
    if (s.where == ResidualPlace::kAfterActivation) block.add_after(r + o);
    block.finish(shifts, y + o);
  }
}

// The parameters repeated for `times` pixels, for dense rows of few channels.
Rescale repeated(const Rescale& s, int64_t times) {
  Rescale wide = s;
  const auto repeat = [times](auto& v) {
    const auto once = v;
    for (int64_t i = 1; i < times; ++i) v.insert(v.end(), once.begin(), once.end());
  };
  for (auto* v : {&wide.bias, &wide.mantissa, &wide.shift, &wide.fraction, &wide.negative,
                  &wide.fraction_negative})
    repeat(*v);
  repeat(wide.gain);
  repeat(wide.residual);
  repeat(wide.residual_negative);
  return wide;
}

template <class T>
void rescale_each(const Rescale& s, const RescaleRows<T>& p) {
  const int64_t channels = s.channels();
  const bool residual = s.where != ResidualPlace::kNone;
  const AllShifts shifts(s);
  parallel_for(p.rows, 1 + 8192 / channels, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      rescale_row(s, shifts, p.sums + i * channels,
                  residual ? p.residual + i * p.residual_pitch : nullptr, p.y + i * p.y_pitch);
  });
}

}  // namespace

int64_t Rescale::bytes() const {
  const size_t small = bias.size() + fraction.size() + mantissa.size() + shift.size() +
                       negative.size() + fraction_negative.size();
  return static_cast<int64_t>(4 * (small + table.size()) +
                              8 * (gain.size() + residual.size() + residual_negative.size()));
}

template <class T>
void rescale_rows(const Rescale& s, const RescaleRows<T>& p) {
  const int64_t channels = s.channels();
  const bool dense =
      p.y_pitch == channels && (s.where == ResidualPlace::kNone || p.residual_pitch == channels);
  const int64_t times = std::min(p.rows, kBlock / channels);
  if (!dense || times <= 1) return rescale_each(s, p);
  RescaleRows<T> wide = p;
  wide.rows = p.rows / times;
  wide.residual_pitch = wide.y_pitch = times * channels;
  rescale_each(repeated(s, times), wide);
  RescaleRows<T> rest = p;
  const int64_t done = wide.rows * times;
  rest.rows = p.rows - done;
  rest.sums += done * channels;
  rest.y += done * channels;
  if (p.residual) rest.residual += done * channels;
  rescale_each(s, rest);
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
      constexpr int32_t kLow = std::numeric_limits<T>::min(), kHigh = std::numeric_limits<T>::max();
#pragma omp simd
      for (int64_t c = 0; c < p.channels; ++c) {
        const int64_t sum = (int64_t{a[c]} << kFactorBits) + b[c] * p.factor;
        const int32_t q = static_cast<int32_t>(shift_round(sum, kFactorBits));
        y[c] = static_cast<T>(q < kLow ? kLow : (q > kHigh ? kHigh : q));
      }
    }
  });
}
template void integer_add(const IntegerAdd<uint8_t>&);
template void integer_add(const IntegerAdd<int8_t>&);

}  // namespace sextant::deploy
