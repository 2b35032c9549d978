// SPDX-License-Identifier: Apache-2.0
// The formula and its gradients are checked in tests/layers; here, that instruction sets and threads
// agree.
#include <array>
#include <cmath>

#include "core/parallel.h"
#include "kernels/backend.h"
#include "kernels/conv/conv_reference.h"
#include "kernels/cpu/isa.h"
#include "kernels/rep_bn_act.h"
#include "support/support.h"

using namespace sextant;
using namespace sextant::kernels;

namespace {

struct BnCase {
  int64_t rows, channels;
  int branches;
  Activation activation;
};

// y, then of each branch mean, 1 / std, the running statistics, dx, dgamma and dbeta.
std::vector<float> run_rep_bn(const BnCase& c) {
  const int64_t n = c.rows * c.channels;
  const auto channels = static_cast<size_t>(c.channels);
  std::array<std::vector<float>, kMaxBranches> x, gamma, beta, dx;
  std::array<std::array<std::vector<float>, 6>, kMaxBranches> small;
  std::vector<float> y(static_cast<size_t>(n));
  const std::vector<float> dy = test::random_floats(n, 40);
  RepBnActForward f;
  RepBnActBackward b;
  for (size_t i = 0; i < static_cast<size_t>(c.branches); ++i) {
    x[i] = test::random_floats(n, i);
    for (float& v : x[i]) v += 0.5f;
    gamma[i] = test::random_floats(c.channels, 10 + i);
    beta[i] = test::random_floats(c.channels, 20 + i);
    dx[i].assign(static_cast<size_t>(n), -77.0f);
    for (auto& v : small[i]) v.assign(channels, 0.25f);
    auto& s = small[i];
    f.branch[i] = {x[i].data(), gamma[i].data(), beta[i].data(), s[2].data(),
                   s[3].data(), s[0].data(),     s[1].data()};
    b.branch[i] = {x[i].data(), gamma[i].data(), beta[i].data(), s[0].data(),
                   s[1].data(), dx[i].data(),    s[4].data(),    s[5].data()};
  }
  f.branches = b.branches = c.branches;
  f.rows = b.rows = c.rows;
  f.channels = b.channels = c.channels;
  f.activation = b.activation = c.activation;
  f.y = y.data();
  b.dy = dy.data();
  cpu::backend().rep_bn_act_forward(f);
  cpu::backend().rep_bn_act_backward(b);
  std::vector<float> all = y;
  for (size_t i = 0; i < static_cast<size_t>(c.branches); ++i) {
    for (const auto& v : small[i]) all.insert(all.end(), v.begin(), v.end());
    all.insert(all.end(), dx[i].begin(), dx[i].end());
  }
  return all;
}

}  // namespace

TEST_CASE("rep_bn_act: instruction sets agree, threads change nothing") {
  const BnCase c = GENERATE(
      BnCase{2, 1, 1, Activation::kReLU}, BnCase{701, 3, 3, Activation::kSiLU},
      BnCase{1500, 17, 2, Activation::kReLU}, BnCase{3000, 64, 3, Activation::kReLU},
      BnCase{900, 100, 3, Activation::kIdentity}, BnCase{2049, 48, 1, Activation::kHardswish});
  CAPTURE(c.rows, c.channels, c.branches, name_of(c.activation));
  const int before = num_threads();
  std::vector<std::vector<float>> results;
  for (const cpu::Isa isa : cpu::usable_isas()) {
    const cpu::ForcedIsa forced(isa);
    CAPTURE(name_of(isa));
    set_num_threads(1);
    results.push_back(run_rep_bn(c));
    set_num_threads(3);
    CHECK(run_rep_bn(c) == results.back());
    double worst = 0;
    for (size_t i = 0; i < results[0].size(); ++i)
      worst = std::max(worst, std::abs(double{results.back()[i]} - results[0][i]) /
                                  (1.0 + std::abs(results[0][i])));
    CHECK(worst < 1e-5);
    if (isa > cpu::Isa::kAvx2) CHECK(results.back() == results[1]);  // the same order, fused alike
  }
  set_num_threads(before);
}
