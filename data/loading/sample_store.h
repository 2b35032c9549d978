// Decoded images of a dataset, resized for a canvas, kept in memory up to a budget.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "data/augment/augment.h"
#include "data/dataset/dataset.h"
#include "data/image/letterbox.h"

namespace sextant::data {

// Thread-safe. What it returns does not depend on what is in memory.
class SampleStore {
 public:
  // Images are resized as letterbox_geometry() has it for `canvas`. `stop`: a broken image throws;
  // else it is reported once. Keeps a reference to the dataset.
  SampleStore(const Dataset& dataset, LetterboxOptions canvas, int64_t budget_bytes, bool stop);

  // Null for an image that does not decode (or throws).
  std::shared_ptr<const Image> load(int64_t index);
  // Sample `index`, or the next one that decodes. Throws Error when none does.
  LoadedSample load_good(int64_t index);
  LetterboxGeometry geometry(int64_t index) const;
  LabelReport report() const;

 private:
  const Dataset& dataset_;
  LetterboxOptions options_;
  const bool stop_;
  mutable std::mutex mutex_;
  int64_t left_bytes_;
  std::vector<std::shared_ptr<const Image>> images_;
  std::vector<char> broken_;
  LabelReport report_;
};

// Decodes and resizes one sample; throws Error naming the file, also when the image is not of the
// size its header had when the dataset was opened.
Image load_resized(const Sample& sample, const LetterboxGeometry& geometry);

}  // namespace sextant::data
