// SPDX-License-Identifier: Apache-2.0
// Training runs on a handful of drawn shapes.
#pragma once

#include <filesystem>

#include "apps/training/train_config.h"
#include "data/synthetic/shapes_dataset.h"

namespace sextant::test {

inline void make_shapes(const std::filesystem::path& folder, int train = 10, int val = 4) {
  data::generate_shapes(folder, {.train = train, .val = val, .width = 80, .height = 64});
}

// A model of a few thousand parameters, so that an epoch takes a moment.
inline Json tiny_json(const std::filesystem::path& data) {
  return {{"seed", 7},
          {"epochs", 3},
          {"batch", 4},
          {"image_size", 64},
          {"close_mosaic", 1},
          {"eval_interval", 2},
          {"data", {{"path", data.string()}}},
          {"model", {{"width_multiple", 0.05}, {"depth_multiple", 0.1}}},
          // Accumulation over 2 of an epoch's 3 batches: one is left over, and dropped.
          {"solver", {{"nominal_batch", 8}, {"warmup_epochs", 1}}}};
}

inline apps::TrainConfig tiny_config(const std::filesystem::path& data) {
  return apps::parse_train_config(tiny_json(data), "test", "");
}

}  // namespace sextant::test
