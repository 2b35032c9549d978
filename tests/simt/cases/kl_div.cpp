// SPDX-License-Identifier: Apache-2.0
#include "kernels/detection/kl_div.h"

#include <cmath>

#include "simt/cases/cases.h"

namespace sextant::test {
namespace {

using namespace sextant::kernels;

struct Shape3 {
  int64_t outer, axis, inner;
};
// Contiguous columns: one value, bins, classes, long; strips of channels: one position, one
// channel more or less than a strip of eight, 68, more positions than lanes.
const std::vector<Shape3> kShapes = {
    {1, 1, 1},  {3, 17, 1},   {33, 17, 1}, {9, 80, 1}, {1, 1025, 1}, {2, 32, 1}, {1, 1, 3},
    {3, 7, 17}, {1, 400, 68}, {3, 9, 8},   {2, 33, 9}, {1, 70, 4},   {0, 4, 4},  {2, 0, 3}};

struct KlMode {
  double temperature, grad_scale;
  bool sigmoid, accumulate, grad;
  double spread;  // of the logits
};
const std::vector<KlMode> kKlModes = {{1, 1, false, false, true, 2},
                                      {4, 0.25, false, true, true, 5},
                                      {1, 3, true, false, true, 3},
                                      {2, 1, true, true, false, 3},
                                      {0.5, 1, false, false, true, 200}};

struct KlResult {
  double sum = 0;
  std::vector<double> grad;
};

KlResult kl_reference(const Shape3& s, const KlMode& m, const std::vector<float>& student,
                      const std::vector<float>& teacher, const std::vector<float>& before) {
  KlResult r;
  r.grad.assign(before.begin(), before.end());
  const auto score = [&](float x) {
    return m.sigmoid ? 1.0 / (1.0 + std::exp(-double{x})) : double{x};
  };
  for (int64_t o = 0; o < s.outer; ++o)
    for (int64_t c = 0; c < s.inner; ++c) {
      const auto at = [&](int64_t a) {
        return static_cast<size_t>((o * s.axis + a) * s.inner + c);
      };
      const auto log_softmax = [&](const std::vector<float>& x) {
        double top = -1e300, sum = 0;
        std::vector<double> out;
        for (int64_t a = 0; a < s.axis; ++a) {
          out.push_back(score(x[at(a)]) / m.temperature);
          top = std::max(top, out.back());
        }
        for (const double v : out) sum += std::exp(v - top);
        for (double& v : out) v -= top + std::log(sum);
        return out;
      };
      const std::vector<double> ls = log_softmax(student), lt = log_softmax(teacher);
      for (int64_t a = 0; a < s.axis; ++a) {
        const auto k = static_cast<size_t>(a);
        r.sum += m.temperature * m.temperature * std::exp(lt[k]) * (lt[k] - ls[k]);
        double g = m.grad_scale * m.temperature * (std::exp(ls[k]) - std::exp(lt[k]));
        const double p = score(student[at(a)]);
        if (m.sigmoid) g *= p * (1 - p);
        r.grad[at(a)] = (m.accumulate ? r.grad[at(a)] : 0.0) + g;
      }
    }
  return r;
}

void check_kl_div(TestGpu& gpu, const Shape3& s, const KlMode& m, int64_t offset) {
  CAPTURE(s.outer, s.axis, s.inner, m.temperature, m.sigmoid, m.accumulate, m.spread, offset);
  const int64_t n = s.outer * s.axis * s.inner;
  const std::vector<float> student = random_values(n, 21, -m.spread, m.spread),
                           teacher = random_values(n, 22, -m.spread, m.spread),
                           before = m.accumulate ? random_values(n, 23, -1, 1) : undefined(n);
  const KlResult ref = kl_reference(s, m, student, teacher, before);
  KlDiv p;
  p.outer = s.outer;
  p.axis = s.axis;
  p.inner = s.inner;
  p.temperature = m.temperature;
  p.grad_scale = m.grad_scale;
  p.sigmoid = m.sigmoid;
  p.accumulate = m.accumulate;
  std::vector<float> grad_cpu = before;
  p.student = student.data();
  p.teacher = teacher.data();
  p.grad = m.grad ? grad_cpu.data() : nullptr;
  double sum_cpu = -1.0;
  p.sum = &sum_cpu;
  host_kernels().kl_div(p);

  const DeviceArray sd(gpu, student), td(gpu, teacher, offset), grad(gpu, before);
  const DeviceArrayOf<double> sum(gpu, {-1.0});
  p.student = sd.data();
  p.teacher = td.data();
  p.grad = m.grad ? grad.data() : nullptr;
  p.sum = sum.data();
  start(gpu, cuda::kl_div, p);
  const double got = sum.values()[0];
  CHECK(std::abs(got - ref.sum) < 1e-11 * (1 + std::abs(ref.sum)));
  CHECK(std::abs(got - sum_cpu) < 1e-11 * (1 + std::abs(ref.sum)));
  if (m.grad) {
    CHECK(worst_error(grad.values(), ref.grad) < 2e-7);
    CHECK(worst_error(grad.values(), grad_cpu) < 2e-7);
  } else {
    grad.require_unchanged();
  }
  sd.require_unchanged();
  td.require_unchanged();
}

}  // namespace

KERNEL_CASE("kl_div kernels") {
  for (const uint64_t seed : gpu.seeds()) {
    gpu.start(seed);
    for (const Shape3& s : kShapes)
      for (const KlMode& m : kKlModes)
        for (const int64_t offset : {0, 1}) check_kl_div(gpu, s, m, offset);
  }
}

}  // namespace sextant::test
