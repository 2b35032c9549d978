// SPDX-License-Identifier: Apache-2.0
// The official training augmentation, one sample at a time.
//
//   with probability mosaic:  4 tiles -> canvas of twice the size -> random affine to the result's size,
//                             then with probability mixup: blend with a second such picture
//   else:                     letterbox -> random affine
//   then HSV jitter, flip up-down, flip left-right
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "core/rng.h"
#include "data/augment/affine.h"
#include "data/augment/hsv.h"
#include "data/augment/mosaic.h"
#include "data/dataset/dataset.h"
#include "data/image/image.h"
#include "data/image/letterbox.h"

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

// Boxes of a letterboxed image, in pixels of the canvas. Crowd boxes are left out.
std::vector<PixelLabel> canvas_labels(const std::vector<Label>& labels,
                                      const LetterboxGeometry& geometry);

// The official mixup ratio: Beta(32, 32).
double draw_mixup_ratio(Rng& rng);

// A sample from the dataset: the image resized to fit the result (see letterbox_geometry), and its
// labels.
struct LoadedSample {
  std::shared_ptr<const Image> image;
  const std::vector<Label>* labels = nullptr;
  int64_t index = 0;  // in the dataset
};

// A source of samples with index in [0, count). `border` as in LetterboxOptions.
struct SampleSource {
  int64_t count = 0;
  std::function<LoadedSample(int64_t index)> load;
  int border = 0;
};

// All random draws for the augmentation of one sample. paint() renders it, or a device does
// (data/loading/device_painter.h).
struct AugmentPlan {
  struct Tile {
    std::shared_ptr<const Image> image;
    int64_t index = -1;  // in the dataset; -1: not from the dataset
    int left = 0;        // position of its upper left corner on the canvas
    int top = 0;
  };
  // Tiles on a canvas, seen through an affine map.
  struct Picture {
    std::vector<Tile> tiles;
    int canvas_width = 0;
    int canvas_height = 0;
    AffineMatrix matrix{};
  };
  std::vector<Picture> pictures;    // one, or two for mixup
  double mix_ratio = 1.0;           // the weight of the first picture
  std::optional<HsvTables> colors;  // empty: colours are unchanged
  bool flip_up_down = false;
  bool flip_left_right = false;
  std::vector<PixelLabel> labels;  // in pixels of the result
};

// Draws the augmentation of sample `index` for a result of this size. Depends on its arguments only.
// `mosaic_on` false: no mosaic and no mixup. Throws Error for an index out of range.
AugmentPlan plan_augmentation(const SampleSource& source, int64_t index, ImageSize size,
                              const AugmentConfig& config, bool mosaic_on, Rng& rng);

// Writes the result, height x width x 3 bytes. `canvas` is scratch memory to reuse from sample to
// sample.
void paint(const AugmentPlan& plan, ImageSize size, Image& canvas, uint8_t* out);

}  // namespace sextant::data
