// SPDX-License-Identifier: Apache-2.0
// Linear layers by cuBLAS.
#pragma once

#include <memory>

#include "kernels/linear.h"

namespace sextant::kernels::cuda {

// For set_linear_library(). A bias, or its gradient, only in f32.
std::unique_ptr<LinearLibrary> cublas_linear();

}  // namespace sextant::kernels::cuda
