// SPDX-License-Identifier: Apache-2.0
#include "kernels/detection/bernoulli_kl.h"

#include <cmath>
#include <memory>

#include "simt/cases/cases.h"

namespace sextant::test {
namespace {

using namespace sextant::kernels;

struct BernoulliMaps {
  std::vector<int64_t> sizes;
  double temperature, spread;  // of the logits
  bool grad;
  int64_t offset;
};

double softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }

// By the logarithms of both probabilities and of their complements.
struct BernoulliReference {
  double divergence = 0, teacher = 0;
  double add(double student, double teacher_logit, double temperature) {
    const double x = student / temperature, y = teacher_logit / temperature;
    const double t = std::exp(-softplus(-y)), s = std::exp(-softplus(-x));
    divergence += t * (softplus(-x) - softplus(-y)) + (1 - t) * (softplus(x) - softplus(y));
    teacher += t;
    return (s - t) / temperature;
  }
};

struct HostMap {
  std::vector<float> student, teacher, grad;
};

void check_bernoulli_kl(TestGpu& gpu, const BernoulliMaps& c) {
  CAPTURE(c.sizes, c.temperature, c.spread, c.grad, c.offset);
  std::vector<HostMap> host;
  std::vector<std::vector<double>> grads;
  BernoulliReference reference;
  BernoulliKl p;
  p.temperature = c.temperature;
  p.maps = static_cast<int>(c.sizes.size());
  uint64_t seed = 31;
  for (const int64_t n : c.sizes) {
    host.push_back({random_values(n, seed, -c.spread, c.spread),
                    random_values(n, seed + 1, -c.spread, c.spread), undefined(n)});
    seed += 2;
  }
  for (size_t i = 0; i < host.size(); ++i) {
    grads.emplace_back();
    for (size_t k = 0; k < host[i].student.size(); ++k)
      grads[i].push_back(reference.add(host[i].student[k], host[i].teacher[k], c.temperature));
    p.map[i] = {host[i].student.data(), host[i].teacher.data(),
                c.grad ? host[i].grad.data() : nullptr, c.sizes[i]};
  }
  const double factor = c.temperature * c.temperature / std::max(1.0, reference.teacher);
  const double loss = factor * reference.divergence;
  float loss_cpu = -1, factor_cpu = -1;
  p.loss = &loss_cpu;
  p.factor = &factor_cpu;
  host_kernels().bernoulli_kl(p);
  CHECK(std::abs(loss_cpu - loss) < 1e-6 * (1 + loss));
  CHECK(std::abs(factor_cpu - factor) < 1e-6 * factor);

  std::vector<std::unique_ptr<DeviceArray>> students, teachers, outputs;
  for (size_t i = 0; i < host.size(); ++i) {
    students.push_back(std::make_unique<DeviceArray>(gpu, host[i].student, c.offset));
    teachers.push_back(std::make_unique<DeviceArray>(gpu, host[i].teacher));
    outputs.push_back(std::make_unique<DeviceArray>(gpu, undefined(c.sizes[i]), c.offset));
    p.map[i] = {students[i]->data(), teachers[i]->data(), c.grad ? outputs[i]->data() : nullptr,
                c.sizes[i]};
  }
  const DeviceArray loss_d(gpu, undefined(1)), factor_d(gpu, undefined(1));
  p.loss = loss_d.data();
  p.factor = factor_d.data();
  start(gpu, cuda::bernoulli_kl, p);
  CHECK(worst_error(loss_d.values(), std::vector<float>{loss_cpu}) < 2e-7);
  CHECK(worst_error(factor_d.values(), std::vector<float>{factor_cpu}) < 2e-7);
  for (size_t i = 0; i < host.size(); ++i) {
    students[i]->require_unchanged();
    teachers[i]->require_unchanged();
    if (!c.grad) {
      outputs[i]->require_unchanged();
      continue;
    }
    CHECK(worst_error(host[i].grad, grads[i]) < 2e-7);
    CHECK(worst_error(outputs[i]->values(), host[i].grad) < 2e-7);
  }
}

}  // namespace

KERNEL_CASE("score divergence kernels") {
  for (const uint64_t seed : gpu.seeds()) {
    gpu.start(seed);
    for (const int64_t offset : {0, 1})
      for (const bool grad : {true, false}) {
        for (const int64_t n : {1, 3, 17, 68, 85, 4096, 9001})
          check_bernoulli_kl(gpu, {{n}, 1, 3, grad, offset});
        check_bernoulli_kl(gpu, {{85, 5000, 17}, 4, 8, grad, offset});
        check_bernoulli_kl(gpu, {{3, 0, 68, 1, 4, 8, 12, 16}, 0.5, 300, grad, offset});
      }
    check_bernoulli_kl(gpu, {{2}, 1, 0.0, true, 0});  // sum t of 1: the floor of the divisor
    check_bernoulli_kl(gpu, {{}, 2, 1, true, 0});
  }
  BernoulliKl many;
  many.maps = kMaxScoreMaps + 1;
  CHECK(error_of([&] { start(gpu, cuda::bernoulli_kl, many); }) ==
        "bernoulli_kl: 9 maps, at most 8");
}

}  // namespace sextant::test
