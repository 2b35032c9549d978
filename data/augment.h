// The official training augmentation, one sample at a time.
//
//   with probability mosaic:  4 tiles -> canvas of twice the size -> random affine to size x size,
//                             then with probability mixup: blend with a second such picture
//   else:                     letterbox -> random affine
//   then HSV jitter, flip up-down, flip left-right
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "core/rng.h"
#include "data/affine.h"
#include "data/dataset.h"
#include "data/image.h"
#include "data/mosaic.h"

namespace sextant::data {

struct AugmentConfig {
  double degrees = 0.0;
  double translate = 0.1;
  double scale = 0.5;
  double shear = 0.0;
  double flipud = 0.0;  // probabilities
  double fliplr = 0.5;
  double mosaic = 1.0;
  double mixup = 0.0;
  double hsv_h = 0.015;  // gains
  double hsv_s = 0.7;
  double hsv_v = 0.4;
};

// image = image * ratio + other * (1 - ratio), truncated; n bytes.
void mixup(uint8_t* image, const uint8_t* other, int64_t n, double ratio);
// In place on height x width x 3 bytes.
void flip_left_right(uint8_t* image, int width, int height);
void flip_up_down(uint8_t* image, int width, int height);
void flip_left_right(std::vector<PixelLabel>& labels, int width);
void flip_up_down(std::vector<PixelLabel>& labels, int height);

// The official mixup ratio: Beta(32, 32).
double draw_mixup_ratio(Rng& rng);

// A sample as it comes from the dataset: the image resized so that it fits size x size (see
// letterbox_geometry), and its labels.
struct LoadedSample {
  std::shared_ptr<const Image> image;
  const std::vector<Label>* labels = nullptr;
};

// Where augment_sample() takes samples from: index in [0, count). `border` as in LetterboxOptions.
struct SampleSource {
  int64_t count = 0;
  std::function<LoadedSample(int64_t index)> load;
  int border = 0;
};

// Memory kept from one sample to the next; one per thread.
struct AugmentBuffers {
  Mosaic mosaic;
  Image image;
};

// Makes the augmented picture of sample `index`, size x size x 3 bytes at `out`, and its boxes in
// pixels of it. Depends on its arguments only. `mosaic_on` false: no mosaic and no mixup.
std::vector<PixelLabel> augment_sample(const SampleSource& source, int64_t index, int size,
                                       const AugmentConfig& config, bool mosaic_on, Rng& rng,
                                       AugmentBuffers& buffers, uint8_t* out);

}  // namespace sextant::data
