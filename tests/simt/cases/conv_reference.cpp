// SPDX-License-Identifier: Apache-2.0
#include "simt/cases/conv_reference.h"

#include <cmath>
#include <limits>

#include "simt/cases/cases.h"

namespace sextant::test {

using kernels::ConvPrecision;
using kernels::ConvShape;

std::vector<ConvType> conv_types() { return {kHalf, kBrain, kTensorFloat, kFloat}; }
std::string name_of_type(const ConvType& t) {
  return std::string(name_of(t.dtype)) + (t.dtype != DType::kF32               ? ""
                                          : t.precision == ConvPrecision::kFma ? " fma"
                                                                               : " 3xtf32");
}

std::vector<ConvShape> ragged_shapes() {
  return {{1, 1, 1, 1, 1, 1, 1, 1, 0},   {1, 1, 1, 8, 8, 3, 3, 1, 1},
          {3, 5, 7, 3, 16, 3, 3, 2, 1},  {1, 6, 5, 17, 68, 3, 3, 1, 1},
          {1, 7, 5, 68, 17, 1, 1, 2, 0}, {1, 5, 4, 12, 4, 2, 3, 2, 1},
          {1, 8, 9, 16, 85, 1, 1, 1, 0}, {1, 3, 3, 2, 3, 3, 3, 1, 2}};
}
std::vector<ConvShape> even_shapes() {
  return {{3, 9, 5, 8, 40, 3, 3, 2, 1},
          {2, 9, 14, 32, 56, 3, 3, 1, 1},
          {1, 25, 10, 40, 24, 1, 1, 1, 0},
          {1, 25, 10, 40, 120, 1, 1, 1, 0},
          {1, 7, 9, 8, 8, 1, 1, 2, 0}};
}

std::vector<ConvShape> depthwise_shapes() {
  return {{2, 5, 7, 16, 16, 3, 3, 1, 1, 16}, {1, 8, 9, 24, 24, 5, 5, 2, 2, 24},
          {1, 6, 6, 40, 40, 3, 3, 2, 1, 40}, {3, 4, 5, 11, 11, 5, 5, 1, 2, 11},
          {1, 4, 12, 3, 3, 2, 9, 1, 4, 3},   {1, 1, 1, 8, 8, 1, 1, 1, 0, 8}};
}

std::vector<float> random_of(DType dtype, int64_t n, uint64_t seed) {
  const std::vector<float> v = random_values(n, seed, -1, 1);
  return with_type(dtype, [&](auto t) { return unpack(pack<decltype(t)>(v)); });
}

ConvProblem::ConvProblem(const ConvShape& s, DType type)
    : shape(s),
      dtype(type),
      x(random_of(type, s.x_numel(), 1)),
      w(random_of(type, s.w_numel(), 2)),
      dy(random_of(type, s.y_numel(), 3)) {}

template <class F>
void ConvProblem::each_product(const F& f) const {
  const auto& s = shape;
  const int64_t inputs = s.ic / s.groups, outputs = s.oc / s.groups;
  for (int64_t n = 0; n < s.n; ++n)
    for (int64_t oy = 0; oy < s.oh(); ++oy)
      for (int64_t ox = 0; ox < s.ow(); ++ox)
        for (int64_t ty = 0; ty < s.kh; ++ty)
          for (int64_t tx = 0; tx < s.kw; ++tx) {
            const int64_t iy = oy * s.stride - s.pad + ty, ix = ox * s.stride - s.pad + tx;
            if (iy < 0 || iy >= s.h || ix < 0 || ix >= s.w) continue;
            for (int64_t o = 0; o < s.oc; ++o)
              for (int64_t c = 0; c < inputs; ++c)
                f(((n * s.oh() + oy) * s.ow() + ox) * s.oc + o,
                  ((n * s.h + iy) * s.w + ix) * s.ic + o / outputs * inputs + c,
                  ((o * s.kh + ty) * s.kw + tx) * inputs + c);
          }
}

namespace {
double product(const std::vector<float>& a, int64_t i, const std::vector<float>& b, int64_t j) {
  return double{a[static_cast<size_t>(i)]} * double{b[static_cast<size_t>(j)]};
}
}  // namespace

Sums ConvProblem::forward() const {
  Sums out(shape.y_numel());
  each_product([&](int64_t iy, int64_t ix, int64_t iw) { out.add(iy, product(x, ix, w, iw)); });
  return out;
}
Sums ConvProblem::data_gradient() const {
  Sums out(shape.x_numel());
  each_product([&](int64_t iy, int64_t ix, int64_t iw) { out.add(ix, product(dy, iy, w, iw)); });
  return out;
}
Sums ConvProblem::weight_gradient() const {
  Sums out(shape.w_numel());
  each_product([&](int64_t iy, int64_t ix, int64_t iw) { out.add(iw, product(dy, iy, x, ix)); });
  return out;
}
Sums ConvProblem::bias_gradient() const {
  Sums out(shape.oc);
  for (size_t i = 0; i < dy.size(); ++i) out.add(static_cast<int64_t>(i) % shape.oc, dy[i]);
  return out;
}

double worst_error(const std::vector<float>& a, const Sums& b, DType dtype) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (a.size() != b.value.size()) return kInfinity;
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double v = b.value[i];
    const double error = std::max(0.0, std::abs(a[i] - v) - rounding_of(dtype, v));
    if (std::isnan(a[i])) return kInfinity;
    if (error > 0) worst = std::max(worst, error / b.magnitude[i]);
  }
  return worst;
}

}  // namespace sextant::test
