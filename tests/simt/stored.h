// SPDX-License-Identifier: Apache-2.0
// Tensors of the types that kernels store: values as floats here, f32, f16 or bf16 on the device.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/dtype.h"
#include "simt/half.h"

namespace sextant::test {

template <class T>
struct Stored;
template <>
struct Stored<float> {
  static constexpr DType kType = DType::kF32;
  static float pack(float v) { return v; }
  static float unpack(float v) { return v; }
};
template <>
struct Stored<simt::half> {
  static constexpr DType kType = DType::kF16;
  static simt::half pack(float v) { return simt::to_half(v); }
  static float unpack(simt::half v) { return simt::to_float(v); }
};
template <>
struct Stored<simt::bfloat16> {
  static constexpr DType kType = DType::kBF16;
  static simt::bfloat16 pack(float v) { return simt::to_bfloat16(v); }
  static float unpack(simt::bfloat16 v) { return simt::to_float(v); }
};
template <class T>
std::vector<T> pack(const std::vector<float>& values) {
  std::vector<T> out;
  for (const float v : values) out.push_back(Stored<T>::pack(v));
  return out;
}
template <class T>
std::vector<float> unpack(const std::vector<T>& values) {
  std::vector<float> out;
  for (const T v : values) out.push_back(Stored<T>::unpack(v));
  return out;
}
// The nearest values that the type holds.
template <class T>
std::vector<float> rounded(const std::vector<float>& values) {
  return unpack(pack<T>(values));
}

// Calls f(T{}) with the stored type.
template <class F>
auto with_type(DType dtype, const F& f) {
  if (dtype == DType::kF16) return f(simt::half{});
  if (dtype == DType::kBF16) return f(simt::bfloat16{});
  return f(float{});
}
// For f32, f16 and bf16.
template <class F>
void each_type(const F& f) {
  for (const DType type : {DType::kF32, DType::kF16, DType::kBF16}) with_type(type, f);
}

// The most that rounding `v` to the type may change it.
inline double rounding_of(DType dtype, double v) {
  if (dtype == DType::kF16) return std::max(std::abs(v) * 0x1p-11, 0x1p-25);
  if (dtype == DType::kBF16) return std::abs(v) * 0x1p-8;
  return 0;
}
// worst_error() (simt/cases.h) of results rounded to T, before that rounding.
template <class T, class Expected>
double worst_error_as(const std::vector<float>& a, const std::vector<Expected>& b) {
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double x = a[i], y = b[i];
    if (!std::isfinite(x)) return std::numeric_limits<double>::infinity();
    const double error = std::abs(x - y) - rounding_of(Stored<T>::kType, y);
    worst = std::max(worst, error / (1.0 + std::abs(y)));
  }
  return worst;
}

}  // namespace sextant::test
