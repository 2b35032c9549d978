#include "data/loading/sample_store.h"

#include "core/error.h"
#include "data/image/resize.h"

namespace sextant::data {

Image load_resized(const Sample& sample, const LetterboxGeometry& geometry) {
  Image image = load_image(sample.image);
  check(image.width == sample.width && image.height == sample.height,
        "{}: the image is {}x{}, it was {}x{} when the dataset was opened", sample.image.string(),
        image.width, image.height, sample.width, sample.height);
  if (image.width == geometry.resized_width && image.height == geometry.resized_height)
    return image;
  return resize_bilinear(image, geometry.resized_width, geometry.resized_height);
}

SampleStore::SampleStore(const Dataset& dataset, LetterboxOptions canvas, int64_t budget_bytes,
                         bool stop)
    : dataset_(dataset),
      options_(canvas),
      stop_(stop),
      left_bytes_(budget_bytes),
      images_(dataset.samples.size()),
      broken_(dataset.samples.size(), 0) {}

LetterboxGeometry SampleStore::geometry(int64_t index) const {
  const Sample& sample = dataset_.samples[static_cast<size_t>(index)];
  return letterbox_geometry(sample.width, sample.height, options_);
}

std::shared_ptr<const Image> SampleStore::load(int64_t index) {
  const auto i = static_cast<size_t>(index);
  {
    const std::lock_guard lock(mutex_);
    if (images_[i] || broken_[i]) return images_[i];
  }
  const Sample& sample = dataset_.samples[i];
  std::shared_ptr<const Image> image;
  try {
    image = std::make_shared<const Image>(load_resized(sample, geometry(index)));
  } catch (const Error& e) {
    if (stop_) throw;
    const std::lock_guard lock(mutex_);
    if (broken_[i]) return nullptr;
    broken_[i] = 1;
    const std::string file = sample.image.string();
    std::string message = e.what();
    if (message.starts_with(file + ": ")) message.erase(0, file.size() + 2);
    report_.add({file, 0, false, "image", message});
    return nullptr;
  }
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
  fail("{}: no image of split '{}' decodes", dataset_.path, dataset_.split);
}

LabelReport SampleStore::report() const {
  const std::lock_guard lock(mutex_);
  return report_;
}

}  // namespace sextant::data
