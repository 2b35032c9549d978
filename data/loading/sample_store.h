// SPDX-License-Identifier: Apache-2.0
// Images of a dataset, resized for a canvas, cached in memory up to a budget: decoded, if all of them
// fit so, else as the files they come in.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "data/augment/augment.h"
#include "data/dataset/dataset.h"
#include "data/image/letterbox.h"

namespace sextant::data {

// Thread-safe. Results do not depend on what is cached.
class SampleStore {
 public:
  // Resizes images by letterbox_geometry() for `canvas`. `reduced`: from a JPEG decoded at a fraction
  // of its size where that is enough (decode_reduced()), for training; else as detection sees it.
  // Keeps a reference to the dataset.
  SampleStore(const Dataset& dataset, LetterboxOptions canvas, int64_t budget_bytes, bool reduced);

  // Null for an image that cannot be decoded, see load_sample().
  std::shared_ptr<const Image> load(int64_t index);
  // Sample `index`, or the next one that can be decoded. Throws Error if none can.
  LoadedSample load_good(int64_t index);
  LetterboxGeometry geometry(int64_t index) const;
  // What is cached, in a line: "decoded images, 98 MB".
  std::string cached() const;

 private:
  using File = std::shared_ptr<const std::vector<uint8_t>>;

  File read(int64_t index);
  // Puts it in its place if there is room; the mutex is held.
  template <class T>
  void keep(std::shared_ptr<const T>& place, std::shared_ptr<const T> value, size_t bytes);

  const Dataset& dataset_;
  LetterboxOptions options_;
  const bool reduced_;
  int64_t decoded_bytes_ = 0;  // of all images
  const int64_t budget_bytes_;
  bool keeps_files_ = false;
  mutable std::mutex mutex_;
  int64_t left_bytes_;
  std::vector<std::shared_ptr<const Image>> images_;
  std::vector<File> files_;
};

// load_sample() and resize.
std::optional<Image> load_resized(const Dataset& dataset, int64_t index,
                                  const LetterboxGeometry& geometry);

}  // namespace sextant::data
