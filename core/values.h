// SPDX-License-Identifier: Apache-2.0
// What the numbers of a model may be.
#pragma once

#include <string>

#include "core/tensor.h"

namespace sextant {

// Far above what any network holds, and low enough that products of three of them are floats.
inline constexpr float kLargestValue = 1e12f;

// What every reader asks of the floats of a model, and every writer, so that nothing is written
// that is not read again: finite, at most kLargestValue, and not negative in a tensor of variances
// ("running_var"). Throws Error naming `where` and the tensor. Integers pass. Host tensors only.
void check_values(const Tensor& t, const std::string& name, const std::string& where);

}  // namespace sextant
