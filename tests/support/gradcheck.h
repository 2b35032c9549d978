// SPDX-License-Identifier: Apache-2.0
// Numeric gradient check.
#pragma once

#include <functional>
#include <vector>

#include "core/variable.h"

namespace sextant::test {

struct GradcheckOptions {
  double step = 1e-2;
  int64_t samples = 24;  // elements probed per input
  uint64_t seed = 1;
};

// The largest difference between the gradient of sum(w * f(inputs)), w random, and its fourth-order
// central difference, relative to the largest gradient of that input. `inputs` are the leaves that
// are checked; f is smooth near them.
double gradcheck(const std::function<Variable(const std::vector<Variable>&)>& f,
                 const std::vector<Tensor>& inputs, GradcheckOptions options = {});

}  // namespace sextant::test
