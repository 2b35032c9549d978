// SPDX-License-Identifier: Apache-2.0
// A convolution problem with random data, and its results in double from the definition.
#pragma once

#include <string>
#include <vector>

#include "kernels/conv.h"
#include "simt/stored.h"

namespace sextant::test {

struct ConvType {
  DType dtype;
  kernels::ConvPrecision precision;
};
inline constexpr ConvType kHalf{DType::kF16, kernels::ConvPrecision::k3xTF32};
inline constexpr ConvType kBrain{DType::kBF16, kernels::ConvPrecision::k3xTF32};
inline constexpr ConvType kTensorFloat{DType::kF32, kernels::ConvPrecision::k3xTF32};
inline constexpr ConvType kFloat{DType::kF32, kernels::ConvPrecision::kFma};
std::vector<ConvType> conv_types();
std::string name_of_type(const ConvType& t);

// One pixel; RGB; heads of 17, 68, 85 channels; 4 and 12 channels (copied by 8 bytes in 16 bits);
// odd sizes, stride 2, kernels that are not square.
std::vector<kernels::ConvShape> ragged_shapes();
// Multiples of eight, with the edges of the tile shapes 64x64, 128x64, 128x32, 128x128 in both
// directions (of the forward product), and k of 8, 32, 40, 72, 288.
std::vector<kernels::ConvShape> even_shapes();

// Channels in whole items of eight and not, kernels of Lite and wider than a walk of the weight
// gradient.
std::vector<kernels::ConvShape> depthwise_shapes();

// Of the sum of magnitudes, before a result is rounded to its type.
inline constexpr double kConvTolerance = 1e-5;

#define CAPTURE_CONV(s, type) \
  CAPTURE(s.n, s.h, s.w, s.ic, s.oc, s.kh, s.kw, s.stride, s.pad, s.groups, name_of_type(type))

// A sum, and the sum of its terms' magnitudes, which bounds its rounding errors.
struct Sums {
  std::vector<double> value, magnitude;
  explicit Sums(int64_t n) : value(static_cast<size_t>(n)), magnitude(static_cast<size_t>(n)) {}
  void add(int64_t at, double term) {
    value[static_cast<size_t>(at)] += term;
    magnitude[static_cast<size_t>(at)] += term < 0 ? -term : term;
  }
};

// Values that the dtype holds exactly.
std::vector<float> random_of(DType dtype, int64_t n, uint64_t seed);

struct ConvProblem {
  ConvProblem(const kernels::ConvShape& shape, DType dtype);
  kernels::ConvShape shape;
  DType dtype;
  std::vector<float> x, w, dy;
  Sums forward() const;
  Sums data_gradient() const;
  Sums weight_gradient() const;
  Sums bias_gradient() const;

 private:
  // f(y index, x index, w index) for each product of the convolution.
  template <class F>
  void each_product(const F& f) const;
};

// max of (|a - value| - what rounding `value` to the dtype may take) / magnitude; infinity for NaN
// or a different size. Where the magnitude is 0, a has to be 0.
double worst_error(const std::vector<float>& a, const Sums& b, DType dtype);

}  // namespace sextant::test
