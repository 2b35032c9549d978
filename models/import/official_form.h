// SPDX-License-Identifier: Apache-2.0
// Parameter counts as the official project counts them, to compare with its tables.
#pragma once

#include <cstdint>

#include "core/safetensors.h"
#include "layers/module.h"

namespace sextant {

// Parameters of the official deploy form of a YOLOv6, which fuses less than ours. It folds the
// batch-norm after a convolution into a bias, and RepVGG's branches into one convolution. It keeps
// the outer batch-norm of a QARepVGG block, convolution and batch-norm of the RepOptimizer's
// blocks, all of a hyper-search block, alpha, the constants of proj, and the head's branches that
// only training needs.
int64_t official_deploy_parameters(const Module& model);

// Adds to a state dict whose convolutions have absorbed their batch-norms what `model` has besides:
// batch-norms that change nothing, but for the bias of a convolution which has none in the model.
// For models without parallel branches. A batch-norm of which the file has any entry is left alone.
void add_absorbed_norms(const Module& model, SafeTensors& state);

}  // namespace sextant
