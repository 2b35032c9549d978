// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "core/config.h"
#include "core/parallel.h"
#include "kernels/backend.h"
#include "support/fixture_folder.h"

using namespace sextant;
using namespace sextant::kernels;
using namespace sextant::test;

namespace {

struct KlDivCase {
  Tensor student, teacher, grad;
  KlDiv p;

  KlDivCase(int64_t outer, int64_t axis, int64_t inner, uint64_t seed, double range)
      : student(random_tensor({outer, axis, inner}, seed, -range, range)),
        teacher(random_tensor({outer, axis, inner}, seed + 1, -range, range)),
        grad(student.shape()) {
    p.student = student.f32();
    p.teacher = teacher.f32();
    p.grad = grad.f32();
    p.outer = outer;
    p.axis = axis;
    p.inner = inner;
  }
};

double kl_div(KlDiv p) {
  double sum = -1.0;
  p.sum = &sum;
  backend(Device::kCpu).kl_div(p);
  return sum;
}

// The definition, column by column.
double plain_kl_div(const KlDiv& p) {
  double sum = 0;
  for (int64_t o = 0; o < p.outer; ++o)
    for (int64_t i = 0; i < p.inner; ++i) {
      std::vector<double> s, t;
      double s_sum = 0, t_sum = 0;
      for (int64_t a = 0; a < p.axis; ++a) {
        const auto value = [&](const float* x) {
          const double v = x[(o * p.axis + a) * p.inner + i];
          return (p.sigmoid ? 1 / (1 + std::exp(-v)) : v) / p.temperature;
        };
        s.push_back(value(p.student));
        t.push_back(value(p.teacher));
        s_sum += std::exp(s.back());
        t_sum += std::exp(t.back());
      }
      for (int64_t a = 0; a < p.axis; ++a)
        sum += std::exp(t[a]) / t_sum * (t[a] - std::log(t_sum) - s[a] + std::log(s_sum));
    }
  return p.temperature * p.temperature * sum;
}

}  // namespace

TEST_CASE("kl divergence equals its plain definition, for each shape, and so does its gradient") {
  for (const auto& [outer, axis, inner] : {std::array<int64_t, 3>{3, 20, 40},
                                           {40, 5, 1},
                                           {2, 64, 1},
                                           {2, 9, 32},
                                           {700, 3, 1},
                                           {1, 1, 4}})
    for (const double temperature : {1.0, 4.0, 20.0, 0.5})
      for (const bool sigmoid : {false, true}) {
        CAPTURE(outer, axis, inner, temperature, sigmoid);
        KlDivCase k(outer, axis, inner, 3, 2.5);
        k.p.temperature = temperature;
        k.p.sigmoid = sigmoid;
        k.p.grad_scale = 0.25;
        const double want = plain_kl_div(k.p), got = kl_div(k.p);
        REQUIRE(std::abs(got - want) < 1e-9 * want + 1e-12);
        double largest = 1e-12;
        for (const float g : k.grad.span<float>())
          largest = std::max(largest, std::abs(static_cast<double>(g)));
        Rng rng(9);
        for (int probe = 0; probe < 12; ++probe) {
          float& x = k.student.f32()[rng.below(k.student.numel())];
          const auto i = &x - k.student.f32();
          const float x0 = x, step = 0x1p-9f;
          x = x0 + step;
          const double up = plain_kl_div(k.p);
          x = x0 - step;
          const double down = plain_kl_div(k.p);
          x = x0;
          const double width = static_cast<double>(x0 + step) - static_cast<double>(x0 - step);
          const double numeric = 0.25 * (up - down) / width;
          REQUIRE(std::abs(numeric - static_cast<double>(k.grad.f32()[i])) < 1e-4 * largest + 1e-9);
        }
      }
}

TEST_CASE("kl divergence adds to a gradient, or computes none") {
  KlDivCase k(4, 7, 3, 5, 2.0);
  const double value = kl_div(k.p);
  const Tensor once = k.grad.clone();
  k.p.accumulate = true;
  REQUIRE(kl_div(k.p) == value);
  for (int64_t i = 0; i < once.numel(); ++i)
    REQUIRE(k.grad.f32()[i] == Approx(2 * once.f32()[i]).margin(1e-7));
  k.p.grad = nullptr;
  REQUIRE(kl_div(k.p) == value);
}

TEST_CASE("kl divergence of equal inputs is zero, of far ones finite") {
  KlDivCase same(2, 50, 8, 6, 3.0);
  same.p.teacher = same.p.student;
  REQUIRE(kl_div(same.p) == 0.0);
  // Not exactly: the difference of two products may be fused.
  for (const float g : same.grad.span<float>()) REQUIRE(std::abs(g) < 1e-15f);
  KlDivCase far(2, 50, 8, 7, 1e4);
  for (const double temperature : {0.1, 1.0, 20.0}) {
    far.p.temperature = temperature;
    REQUIRE(std::isfinite(kl_div(far.p)));
    for (const float g : far.grad.span<float>()) REQUIRE(std::isfinite(g));
  }
}

TEST_CASE("kl divergence does not depend on the number of threads") {
  KlDivCase k(5, 300, 70, 8, 2.0);
  const int before = num_threads();
  set_num_threads(1);
  const double one = kl_div(k.p);
  const Tensor grad = k.grad.clone();
  set_num_threads(3);
  const double three = kl_div(k.p);
  set_num_threads(before);
  REQUIRE(one == three);
  REQUIRE(max_difference(grad, k.grad) == 0);
}

TEST_CASE("kl divergence matches the official distillation parts") {
  for (const std::string& name : fixtures_of(kLossFixtures, "distill_parts")) {
    SEXTANT_REQUIRE_FIXTURE(f, name);
    std::string list = f.meta("temperatures");  // a Python tuple
    list.front() = '[';
    list.back() = ']';
    for (const double t : Json::parse(list).get<std::vector<double>>()) {
      CAPTURE(name, t);
      const std::string prefix = "T" + std::to_string(static_cast<int>(t)) + ".";
      const auto run = [&](const Tensor& student, const Tensor& teacher, KlDiv p, double scale,
                           const Tensor& want_grad) {
        Tensor grad(student.shape());
        p.student = student.f32();
        p.teacher = teacher.f32();
        p.grad = grad.f32();
        p.grad_scale = scale;
        const double value = scale * kl_div(p);
        REQUIRE(relative_difference(
                    want_grad.shape().rank() == 4 && p.inner > 1 ? nhwc_to_nchw(grad) : grad,
                    want_grad) < 1e-5);
        return value;
      };
      const Tensor& scores = f.at("input.s_scores");
      KlDiv p;
      p.temperature = t;
      p.outer = scores.numel() / scores.shape()[-1];
      p.axis = scores.shape()[-1];
      REQUIRE(run(scores, f.at("input.t_scores"), p, 1.0, f.at(prefix + "grad.s_scores")) ==
              Approx(f.at(prefix + "output.cls").item()).epsilon(1e-6));
      const Tensor& dist = f.at("input.s_dist");  // the mean over the sides
      p.outer = dist.numel() / dist.shape()[-1];
      p.axis = dist.shape()[-1];
      REQUIRE(run(dist, f.at("input.t_dist"), p, 1.0 / static_cast<double>(p.outer),
                  f.at(prefix + "grad.s_dist")) ==
              Approx(f.at(prefix + "output.dfl").item()).epsilon(1e-6));
      double sum = 0;
      for (int l = 0; const Tensor* map = f.find("input.s_feat." + std::to_string(l)); ++l) {
        const std::string index = std::to_string(l);
        p.outer = map->dim(0);
        p.axis = map->dim(2) * map->dim(3);
        p.inner = map->dim(1);
        p.temperature = t;
        sum += run(nchw_to_nhwc(*map), nchw_to_nhwc(f.at("input.t_feat." + index)), p,
                   1.0 / static_cast<double>(p.outer * p.inner),
                   f.at(prefix + "grad.s_feat." + index));
      }
      REQUIRE(sum == Approx(f.at(prefix + "output.cw").item()).epsilon(1e-6));
    }
  }
}
