// SPDX-License-Identifier: Apache-2.0
#include "support/gradcheck.h"

#include <algorithm>
#include <cmath>

#include "support/support.h"

namespace sextant::test {

double gradcheck(const std::function<Variable(const std::vector<Variable>&)>& f,
                 const std::vector<Tensor>& inputs, GradcheckOptions options) {
  std::vector<Variable> leaves;
  for (const auto& t : inputs) leaves.emplace_back(t.clone(), true);
  const Variable y = f(leaves);
  const Tensor w = random_tensor(y.shape(), options.seed + 77);
  backward({{y, w}});
  const auto value = [&] {
    const NoGrad guard;
    const Variable out = f(leaves);
    double sum = 0;
    for (int64_t i = 0; i < w.numel(); ++i)
      sum += static_cast<double>(out.f32()[i]) * static_cast<double>(w.f32()[i]);
    return sum;
  };
  double worst = 0;
  Rng rng(options.seed);
  for (const auto& leaf : leaves) {
    double largest = 1e-3;
    for (const float g : leaf.grad().span<float>())
      largest = std::max(largest, std::abs(static_cast<double>(g)));
    for (int64_t k = 0; k < options.samples; ++k) {
      float& x = leaf.f32()[rng.below(leaf.data().numel())];
      const auto i = &x - leaf.f32();
      const float x0 = x;
      const auto at = [&](double d) {
        x = static_cast<float>(x0 + d);
        return value();
      };
      const double h = options.step;
      const double numeric = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
      x = x0;
      worst = std::max(worst, std::abs(numeric - leaf.grad().f32()[i]) / largest);
    }
  }
  return worst;
}

}  // namespace sextant::test
