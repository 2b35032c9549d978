// SPDX-License-Identifier: Apache-2.0
// The losses of the validation split, of the averaged weights in evaluation mode.
#pragma once

#include "apps/training/run.h"

namespace sextant::apps {

// Means over the batches, letterboxed as in an evaluation; nothing where no image can be decoded.
// Needs TaskTraits::has_losses.
std::optional<LossItems> validation_losses(TrainingTask& task, const data::Dataset& val,
                                           const RunConfig& config);

}  // namespace sextant::apps
