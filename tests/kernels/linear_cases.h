// SPDX-License-Identifier: Apache-2.0
// Linear layers on any device against sums in double.
#pragma once

#include <cmath>
#include <vector>

#include "core/rng.h"
#include "core/tensor.h"
#include "kernels/backend.h"
#include "support/support.h"

namespace sextant::test {

inline void linear_cases(Device device) {
  const auto random = [](const Shape& shape, uint64_t seed) {
    Rng rng(seed);
    const Tensor t(shape);
    for (float& v : t.span<float>()) v = static_cast<float>(rng.uniform(-1, 1));
    return t;
  };
  const auto worst = [](const Tensor& result, const std::vector<double>& expected) {
    const Tensor here = result.to(Device::kCpu);
    double largest = 0;
    for (size_t i = 0; i < expected.size(); ++i)
      largest = std::max(largest, std::abs(static_cast<double>(here.f32()[i]) - expected[i]) /
                                      (1 + std::abs(expected[i])));
    return largest;
  };
  const kernels::Backend& on = kernels::backend(device);
  for (const kernels::LinearShape s :
       {kernels::LinearShape{1, 1, 1}, {1, 17, 3}, {3, 68, 17}, {70, 3, 68}, {33, 64, 80}}) {
    INFO("rows " << s.rows << ", in " << s.in << ", out " << s.out);
    const Tensor x = random({s.rows, s.in}, 1), w = random({s.out, s.in}, 2),
                 bias = random({s.out}, 3), dy = random({s.rows, s.out}, 4);
    const auto [rows, in, out] = std::array{s.rows, s.in, s.out};
    std::vector<double> y(static_cast<size_t>(rows * out)), dx(static_cast<size_t>(rows * in), 0.0),
        dw(static_cast<size_t>(out * in), 0.0), db(static_cast<size_t>(out), 0.0), bare = y;
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t o = 0; o < out; ++o) {
        double sum = 0;
        const double g = dy.f32()[r * out + o];
        for (int64_t i = 0; i < in; ++i) {
          const double a = x.f32()[r * in + i], b = w.f32()[o * in + i];
          sum += a * b;
          dx[static_cast<size_t>(r * in + i)] += g * b;
          dw[static_cast<size_t>(o * in + i)] += g * a;
        }
        bare[static_cast<size_t>(r * out + o)] = sum;
        y[static_cast<size_t>(r * out + o)] = sum + static_cast<double>(bias.f32()[o]);
        db[static_cast<size_t>(o)] += g;
      }
    const Tensor x_ = x.to(device), w_ = w.to(device), bias_ = bias.to(device), dy_ = dy.to(device);
    const auto nan = [&](const Shape& shape) {
      return Tensor::full(shape, std::nanf("")).to(device).clone();
    };
    const Tensor y_ = nan({rows, out}), bare_ = nan({rows, out}), dx_ = nan({rows, in}),
                 dw_ = nan({out, in}), db_ = nan({out});
    on.linear_forward({s, x_.f32(), w_.f32(), bias_.f32(), y_.f32()});
    on.linear_forward({s, x_.f32(), w_.f32(), nullptr, bare_.f32()});
    on.linear_backward({s, x_.f32(), w_.f32(), dy_.f32(), dx_.f32(), dw_.f32(), db_.f32()});
    CHECK(worst(y_, y) < 1e-5);
    CHECK(worst(bare_, bare) < 1e-5);
    CHECK(worst(dx_, dx) < 1e-5);
    CHECK(worst(dw_, dw) < 1e-5);
    CHECK(worst(db_, db) < 1e-5);

    // Only what is wanted is written.
    const Tensor alone = nan({out, in});
    on.linear_backward({s, x_.f32(), w_.f32(), dy_.f32(), nullptr, alone.f32(), nullptr});
    CHECK(worst(alone, dw) < 1e-5);
  }
  CHECK_THROWS_WITH(on.linear_forward({{0, 3, 4}}), Contains("linear: 0 rows of 3 to 4"));
}

}  // namespace sextant::test
