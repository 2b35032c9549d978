// SPDX-License-Identifier: Apache-2.0
// Decoded images of a dataset, resized for a canvas and cached in memory up to a budget.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "data/augment/augment.h"
#include "data/dataset/dataset.h"
#include "data/image/letterbox.h"

namespace sextant::data {

// Thread-safe. Results do not depend on what is cached.
class SampleStore {
 public:
  // Resizes images by letterbox_geometry() for `canvas`. Keeps a reference to the dataset.
  SampleStore(const Dataset& dataset, LetterboxOptions canvas, int64_t budget_bytes);

  // Null for an image that cannot be decoded, see load_sample().
  std::shared_ptr<const Image> load(int64_t index);
  // Sample `index`, or the next one that can be decoded. Throws Error if none can.
  LoadedSample load_good(int64_t index);
  LetterboxGeometry geometry(int64_t index) const;

 private:
  const Dataset& dataset_;
  LetterboxOptions options_;
  mutable std::mutex mutex_;
  int64_t left_bytes_;
  std::vector<std::shared_ptr<const Image>> images_;
};

// load_sample() and resize.
std::optional<Image> load_resized(const Dataset& dataset, int64_t index,
                                  const LetterboxGeometry& geometry);

}  // namespace sextant::data
