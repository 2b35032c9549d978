// SPDX-License-Identifier: Apache-2.0
// The gradients of the f32 convolutions on every instruction set that this processor has.
#include <cmath>

#include "core/parallel.h"
#include "kernels/backend.h"
#include "kernels/conv/conv_reference.h"
#include "kernels/cpu/isa.h"
#include "support/support.h"

using namespace sextant;
using namespace sextant::kernels;

namespace {

const Backend& kernel = backend(Device::kCpu);

struct Gradients {
  std::vector<double> dx, dw, db;
};

// By their definition: each product of the forward sum gives its part to both.
Gradients gradients_of(const ConvShape& s, const float* x, const float* w, const float* dy) {
  const int64_t inputs = s.ic / s.groups, outputs = s.oc / s.groups;
  Gradients g{std::vector<double>(static_cast<size_t>(s.x_numel())),
              std::vector<double>(static_cast<size_t>(s.w_numel())),
              std::vector<double>(static_cast<size_t>(s.oc))};
  for (int64_t n = 0; n < s.n; ++n)
    for (int64_t oy = 0; oy < s.oh(); ++oy)
      for (int64_t ox = 0; ox < s.ow(); ++ox)
        for (int64_t o = 0; o < s.oc; ++o) {
          const double d = dy[((n * s.oh() + oy) * s.ow() + ox) * s.oc + o];
          g.db[static_cast<size_t>(o)] += d;
          for (int64_t ky = 0; ky < s.kh; ++ky)
            for (int64_t kx = 0; kx < s.kw; ++kx) {
              const int64_t iy = oy * s.stride - s.pad + ky, ix = ox * s.stride - s.pad + kx;
              if (iy < 0 || iy >= s.h || ix < 0 || ix >= s.w) continue;
              for (int64_t c = 0; c < inputs; ++c) {
                const int64_t at = ((n * s.h + iy) * s.w + ix) * s.ic + o / outputs * inputs + c;
                const int64_t weight = ((o * s.kh + ky) * s.kw + kx) * inputs + c;
                g.dx[static_cast<size_t>(at)] += d * static_cast<double>(w[weight]);
                g.dw[static_cast<size_t>(weight)] += d * static_cast<double>(x[at]);
              }
            }
        }
  return g;
}

double relative_error(const std::vector<float>& got, const std::vector<double>& expected) {
  double largest = 1e-30, apart = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    largest = std::max(largest, std::abs(expected[i]));
    const double difference = std::abs(static_cast<double>(got[i]) - expected[i]);
    apart = difference <= apart ? apart : difference;
    if (std::isnan(got[i])) return INFINITY;
  }
  return apart / largest;
}

}  // namespace

TEST_CASE("f32 convolution: gradients, by every algorithm") {
  const ConvShape s = GENERATE(
      ConvShape{1, 1, 1, 1, 1, 1, 1, 1, 0}, ConvShape{2, 20, 20, 32, 24, 3, 3, 1, 1},
      ConvShape{2, 13, 17, 5, 19, 3, 3, 1, 1}, ConvShape{2, 13, 17, 5, 19, 3, 3, 2, 1},
      ConvShape{1, 16, 18, 16, 32, 3, 3, 2, 1}, ConvShape{1, 32, 30, 3, 24, 3, 3, 2, 1},
      ConvShape{1, 17, 16, 3, 16, 6, 6, 2, 2}, ConvShape{3, 9, 15, 24, 40, 1, 1, 1, 0},
      ConvShape{1, 9, 15, 8, 3, 1, 1, 2, 0}, ConvShape{1, 7, 9, 12, 18, 3, 3, 1, 1, 3},
      ConvShape{1, 7, 9, 12, 18, 3, 3, 2, 1, 3}, ConvShape{2, 9, 8, 21, 21, 3, 3, 1, 1, 21},
      ConvShape{2, 9, 8, 24, 24, 5, 5, 2, 2, 24}, ConvShape{1, 11, 20, 8, 8, 5, 5, 1, 2, 8},
      ConvShape{1, 6, 6, 16, 16, 3, 3, 1, 0}, ConvShape{1, 11, 4, 40, 7, 3, 3, 1, 2},
      ConvShape{1, 12, 12, 4, 8, 1, 3, 1, 1}, ConvShape{1, 12, 10, 9, 31, 5, 5, 3, 2},
      ConvShape{1, 4, 4, 20, 64, 1, 1, 1, 1}, ConvShape{1, 8, 8, 6, 5, 2, 2, 3, 0},
      ConvShape{4, 20, 20, 64, 64, 3, 3, 1, 1}, ConvShape{6, 27, 27, 200, 16, 3, 3, 1, 1},
      ConvShape{3, 9, 15, 32, 40, 1, 1, 1, 0}, ConvShape{2, 8, 10, 32, 24, 1, 1, 2, 0});
  const auto x = test::random_floats(s.x_numel(), 1), w = test::random_floats(s.w_numel(), 2),
             dy = test::random_floats(s.y_numel(), 3);
  const Gradients expected = gradients_of(s, x.data(), w.data(), dy.data());
  CAPTURE(s.n, s.h, s.w, s.ic, s.oc, s.kh, s.stride, s.pad, s.groups);
  for (const cpu::Isa isa : cpu::usable_isas()) {
    const cpu::ForcedIsa forced(isa);
    CAPTURE(name_of(isa));
    std::vector<float> dx(x.size(), -77.0f), dw(w.size(), -77.0f), db(expected.db.size(), -77.0f);
    const auto check_all = [&](double tolerance) {
      kernel.conv_backward_data({.shape = s, .dy = dy.data(), .w = w.data(), .dx = dx.data()});
      CHECK(relative_error(dx, expected.dx) < tolerance);
      kernel.conv_backward_weight(
          {.shape = s, .x = x.data(), .dy = dy.data(), .dw = dw.data(), .db = db.data()});
      CHECK(relative_error(dw, expected.dw) < tolerance);
      CHECK(relative_error(db, expected.db) < 1e-6);
    };
    check_all(6e-6);
    const cpu::ExactSums exact;
    check_all(2e-6);
    // added to the existing contents
    std::vector<double> twice = expected.dx;
    for (double& v : twice) v *= 2;
    kernel.conv_backward_data(
        {.shape = s, .dy = dy.data(), .w = w.data(), .dx = dx.data(), .accumulate = true});
    CHECK(relative_error(dx, twice) < 2e-6);
  }
}

TEST_CASE("f32 convolution: gradients do not depend on the number of threads") {
  const ConvShape s =
      GENERATE(ConvShape{4, 20, 20, 64, 48, 3, 3, 1, 1}, ConvShape{2, 20, 20, 24, 32, 3, 3, 1, 1},
               ConvShape{8, 10, 10, 64, 48, 1, 1, 1, 0}, ConvShape{2, 21, 20, 16, 32, 3, 3, 2, 1},
               ConvShape{8, 10, 10, 24, 24, 3, 3, 1, 1, 24});
  const auto x = test::random_floats(s.x_numel(), 1), w = test::random_floats(s.w_numel(), 2),
             dy = test::random_floats(s.y_numel(), 3);
  std::vector<std::vector<float>> results;
  const int before = num_threads();
  for (const int threads : {1, 2, 5}) {
    set_num_threads(threads);
    std::vector<float> dx(x.size()), dw(w.size()), db(static_cast<size_t>(s.oc));
    kernel.conv_backward_data({.shape = s, .dy = dy.data(), .w = w.data(), .dx = dx.data()});
    kernel.conv_backward_weight(
        {.shape = s, .x = x.data(), .dy = dy.data(), .dw = dw.data(), .db = db.data()});
    dx.insert(dx.end(), dw.begin(), dw.end());
    dx.insert(dx.end(), db.begin(), db.end());
    results.push_back(std::move(dx));
  }
  set_num_threads(before);
  CHECK(results[0] == results[1]);
  CHECK(results[0] == results[2]);
}

TEST_CASE("f32 transposed convolution: result and gradients") {
  const ConvTransposeShape s =
      GENERATE(ConvTransposeShape{2, 5, 7, 24, 16, 2}, ConvTransposeShape{1, 4, 3, 5, 9, 3},
               ConvTransposeShape{1, 3, 3, 2, 1, 1});
  const int64_t taps = s.k * s.k, x_numel = s.n * s.h * s.w * s.ic;
  const auto x = test::random_floats(x_numel, 1), w = test::random_floats(s.oc * taps * s.ic, 2),
             b = test::random_floats(s.oc, 3), dy = test::random_floats(s.y_numel(), 4);
  std::vector<double> y(dy.size()), dx(x.size()), dw(w.size()), db(b.size());
  for (int64_t n = 0; n < s.n; ++n)
    for (int64_t r = 0; r < s.h * s.k; ++r)
      for (int64_t c = 0; c < s.w * s.k; ++c)
        for (int64_t o = 0; o < s.oc; ++o) {
          const auto at = static_cast<size_t>(((n * s.h * s.k + r) * s.w * s.k + c) * s.oc + o);
          y[at] = b[static_cast<size_t>(o)];
          db[static_cast<size_t>(o)] += static_cast<double>(dy[at]);
          for (int64_t i = 0; i < s.ic; ++i) {
            const auto from = static_cast<size_t>(((n * s.h + r / s.k) * s.w + c / s.k) * s.ic + i);
            const auto weight =
                static_cast<size_t>(((o * s.k + r % s.k) * s.k + c % s.k) * s.ic + i);
            y[at] += static_cast<double>(x[from]) * static_cast<double>(w[weight]);
            dx[from] += static_cast<double>(dy[at]) * static_cast<double>(w[weight]);
            dw[weight] += static_cast<double>(dy[at]) * static_cast<double>(x[from]);
          }
        }
  for (const cpu::Isa isa : cpu::usable_isas()) {
    const cpu::ForcedIsa forced(isa);
    CAPTURE(name_of(isa), s.k, s.ic);
    std::vector<float> got(y.size(), -77.0f), got_dx(dx.size(), -77.0f), got_dw(dw.size(), -77.0f),
        got_db(db.size(), -77.0f);
    kernel.conv_transpose_forward(
        {.shape = s, .x = x.data(), .w = w.data(), .bias = b.data(), .y = got.data()});
    CHECK(relative_error(got, y) < 1e-6);
    kernel.conv_transpose_backward({.shape = s,
                                    .x = x.data(),
                                    .w = w.data(),
                                    .dy = dy.data(),
                                    .dx = got_dx.data(),
                                    .dw = got_dw.data(),
                                    .db = got_db.data()});
    CHECK(relative_error(got_dx, dx) < 1e-6);
    CHECK(relative_error(got_dw, dw) < 1e-6);
    CHECK(relative_error(got_db, db) < 1e-6);
  }
}
