// SPDX-License-Identifier: Apache-2.0
#include "apps/training/validation_loss.h"

#include <algorithm>

#include "core/progress.h"

namespace sextant::apps {

std::optional<LossItems> validation_losses(TrainingTask& task, const data::Dataset& val,
                                           const RunConfig& config) {
  const TaskTraits traits = task.traits();
  LossItems mean;
  double batches = 0;
  Progress progress("validation losses", val.size());
  for (int64_t i = 0; i < val.size(); i += config.batch) {
    progress.update(i);
    data::Batch batch = data::load_batch(val, i, std::min(val.size(), i + config.batch),
                                         {.width = config.width(),
                                          .height = config.image_size,
                                          .border = static_cast<int>(traits.gray_border)});
    if (batch.size() == 0) continue;
    batch.images = batch.images.to(traits.device);
    const LossItems items = task.losses(batch);
    mean.iou += items.iou;
    mean.dfl += items.dfl;
    mean.cls += items.cls;
    mean.objectness += items.objectness;
    ++batches;
  }
  if (batches == 0) return std::nullopt;
  for (double* v : {&mean.iou, &mean.dfl, &mean.cls, &mean.objectness}) *v /= batches;
  return mean;
}

}  // namespace sextant::apps
