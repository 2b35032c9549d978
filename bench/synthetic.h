// SPDX-License-Identifier: Apache-2.0
// Synthetic targets for a training step.
#pragma once

#include "core/rng.h"
#include "core/tensor.h"

namespace sextant::bench {

// f32 [batch * 14, 6] as a detection loss takes them: about as many boxes as a picture of BCCD has.
inline Tensor random_targets(int64_t batch, int64_t classes, Rng& rng) {
  std::vector<float> rows;
  for (int64_t n = 0; n < batch; ++n)
    for (int k = 0; k < 14; ++k)
      for (const double v : {static_cast<double>(n), static_cast<double>(rng.below(classes)),
                             rng.uniform(0.15, 0.85), rng.uniform(0.15, 0.85),
                             rng.uniform(0.05, 0.3), rng.uniform(0.05, 0.3)})
        rows.push_back(static_cast<float>(v));
  return Tensor::from(Shape{static_cast<int64_t>(rows.size() / 6), 6}, rows);
}

}  // namespace sextant::bench
