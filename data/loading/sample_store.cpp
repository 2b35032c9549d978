// SPDX-License-Identifier: Apache-2.0
#include "data/loading/sample_store.h"

#include "core/error.h"
#include "data/image/resize.h"

namespace sextant::data {

std::optional<Image> load_resized(const Dataset& dataset, int64_t index,
                                  const LetterboxGeometry& geometry) {
  std::optional<Image> image = load_sample(dataset, index);
  if (!image ||
      (image->width == geometry.resized_width && image->height == geometry.resized_height))
    return image;
  return resize_bilinear(*image, geometry.resized_width, geometry.resized_height);
}

SampleStore::SampleStore(const Dataset& dataset, LetterboxOptions canvas, int64_t budget_bytes)
    : dataset_(dataset),
      options_(canvas),
      left_bytes_(budget_bytes),
      images_(dataset.samples.size()) {}

LetterboxGeometry SampleStore::geometry(int64_t index) const {
  const Sample& sample = dataset_.samples[static_cast<size_t>(index)];
  return letterbox_geometry(sample.width, sample.height, options_);
}

std::shared_ptr<const Image> SampleStore::load(int64_t index) {
  const auto i = static_cast<size_t>(index);
  {
    const std::lock_guard lock(mutex_);
    if (images_[i]) return images_[i];
  }
  auto loaded = load_resized(dataset_, index, geometry(index));
  if (!loaded) return nullptr;
  const auto image = std::make_shared<const Image>(std::move(*loaded));
  const auto bytes = static_cast<int64_t>(image->pixels.size());
  const std::lock_guard lock(mutex_);
  if (!images_[i] && bytes <= left_bytes_) {
    left_bytes_ -= bytes;
    images_[i] = image;
  }
  return image;
}

LoadedSample SampleStore::load_good(int64_t index) {
  const int64_t n = dataset_.size();
  for (int64_t k = 0; k < n; ++k) {
    const int64_t at = (index + k) % n;
    if (auto image = load(at))
      return {image, &dataset_.samples[static_cast<size_t>(at)].labels, at};
  }
  fail("{}: none of the images of split '{}' can be decoded", dataset_.path, dataset_.split);
}

}  // namespace sextant::data
