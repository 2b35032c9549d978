// SPDX-License-Identifier: Apache-2.0
// The formula weights of the reference models: each value is a function of its name.
// (fixtures README, "Formula weights".)
#pragma once

#include <string>

#include "core/tensor.h"

namespace sextant::test {

// Fills `t`, which is in file (PyTorch) layout. "detect.proj*" and counters are left alone.
// `norm_bias`: what the biases of batch-norms are around.
void fill_formula_weights(const std::string& name, const Tensor& t, const std::string& salt,
                          double gain, double norm_bias = 0);

}  // namespace sextant::test
