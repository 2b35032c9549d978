// SPDX-License-Identifier: Apache-2.0
// Parameters and scales for the tests of optimizers.
#pragma once

#include <string>
#include <vector>

#include "optim/param_groups.h"
#include "support/support.h"

namespace sextant::test {

// input.param.* of an optimizer fixture through `copy`, with the kinds that their names imply.
inline std::vector<optim::NamedParameter> fixture_parameters(
    const SafeTensors& f,
    Tensor (*copy)(const Tensor&) = [](const Tensor& t) { return t.clone(); }) {
  const std::string prefix = "input.param.";
  std::vector<optim::NamedParameter> parameters;
  for (const auto& [name, tensor] : f.tensors)
    if (name.starts_with(prefix))
      parameters.push_back(
          optim::named_parameter(name.substr(prefix.size()), Variable(copy(tensor), true)));
  return parameters;
}

// A branch's scales: positive, since AdamW's rule needs it.
inline Tensor random_scales(int64_t channels, uint64_t seed) {
  return random_tensor({channels}, seed, 0.4, 1.6);
}

}  // namespace sextant::test
