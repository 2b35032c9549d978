// SPDX-License-Identifier: Apache-2.0
#include "data/loading/sample_store.h"

#include "core/error.h"
#include "core/file.h"
#include "data/image/resize.h"

namespace sextant::data {
namespace {

std::optional<Image> resized(std::optional<Image> image, const LetterboxGeometry& geometry) {
  if (!image ||
      (image->width == geometry.resized_width && image->height == geometry.resized_height))
    return image;
  return resize_bilinear(*image, geometry.resized_width, geometry.resized_height);
}

}  // namespace

std::optional<Image> load_resized(const Dataset& dataset, int64_t index,
                                  const LetterboxGeometry& geometry) {
  return resized(load_sample(dataset, index), geometry);
}

SampleStore::SampleStore(const Dataset& dataset, LetterboxOptions canvas, int64_t budget_bytes,
                         bool reduced)
    : dataset_(dataset),
      options_(canvas),
      reduced_(reduced),
      budget_bytes_(budget_bytes),
      left_bytes_(budget_bytes) {
  for (int64_t i = 0; i < dataset.size(); ++i) {
    const LetterboxGeometry g = geometry(i);
    decoded_bytes_ += int64_t{3} * g.resized_width * g.resized_height;
  }
  keeps_files_ = decoded_bytes_ > budget_bytes;
  (keeps_files_ ? files_.resize(dataset.samples.size()) : images_.resize(dataset.samples.size()));
}

LetterboxGeometry SampleStore::geometry(int64_t index) const {
  const Sample& sample = dataset_.samples[static_cast<size_t>(index)];
  return letterbox_geometry(sample.width, sample.height, options_);
}

std::string SampleStore::cached() const {
  const auto mb = [](int64_t bytes) { return (bytes + 999999) / 1000000; };
  if (!keeps_files_) return fmt::format("decoded images, {} MB", mb(decoded_bytes_));
  return fmt::format("image files, up to {} MB (decoded they would take {})", mb(budget_bytes_),
                     mb(decoded_bytes_));
}

template <class T>
void SampleStore::keep(std::shared_ptr<const T>& place, std::shared_ptr<const T> value,
                       size_t bytes) {
  if (place || static_cast<int64_t>(bytes) > left_bytes_) return;
  left_bytes_ -= static_cast<int64_t>(bytes);
  place = std::move(value);
}

SampleStore::File SampleStore::read(int64_t index) {
  const auto i = static_cast<size_t>(index);
  if (keeps_files_) {
    const std::lock_guard lock(mutex_);
    if (files_[i]) return files_[i];
  }
  auto file = std::make_shared<const std::vector<uint8_t>>(read_bytes(dataset_.samples[i].image));
  if (keeps_files_) {
    const std::lock_guard lock(mutex_);
    keep(files_[i], file, file->size());
  }
  return file;
}

std::shared_ptr<const Image> SampleStore::load(int64_t index) {
  const auto i = static_cast<size_t>(index);
  if (!keeps_files_) {
    const std::lock_guard lock(mutex_);
    if (images_[i]) return images_[i];
  }
  const LetterboxGeometry g = geometry(index);
  const ImageSize least = reduced_ ? ImageSize{g.resized_width, g.resized_height}
                                   : ImageSize{kMaxImageSide, kMaxImageSide};
  auto loaded =
      resized(load_reduced_sample(dataset_, index, least, [&] { return read(index); }), g);
  if (!loaded) return nullptr;
  const auto image = std::make_shared<const Image>(std::move(*loaded));
  if (!keeps_files_) {
    const std::lock_guard lock(mutex_);
    keep(images_[i], image, image->pixels.size());
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
