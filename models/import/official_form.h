// SPDX-License-Identifier: Apache-2.0
// Parameter counts as the official project counts them, to compare with its tables.
#pragma once

#include <cstdint>

#include "layers/module.h"

namespace sextant {

// Parameters of the official deploy form of a YOLOv6, which fuses less than ours. It folds the
// batch-norm after a convolution into a bias, and RepVGG's branches into one convolution. It keeps
// the outer batch-norm of a QARepVGG block, convolution and batch-norm of the RepOptimizer's
// blocks, all of a hyper-search block, alpha, the constants of proj, and the head's branches that
// only training needs.
int64_t official_deploy_parameters(const Module& model);

}  // namespace sextant
