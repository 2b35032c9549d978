// SPDX-License-Identifier: Apache-2.0
// Augmentation of a training batch from raw bytes in one pass, and letterboxing: the steps of
// data/augment/augment.h and data/image/letterbox.h, computed independently for each result pixel.
// Geometry and random draws come from the host. Images are RGB u8, rows without gaps. CUDA: as on
// the CPU, except that a coordinate within rounding of a step may be rounded the other way.
#pragma once

#include <cstdint>

namespace sextant::kernels {

// --- letterbox ----------------------------------------------------------------------------------

// An image and its place on the canvas (data/image/letterbox.h, LetterboxGeometry): resized_width x
// resized_height pixels of the canvas from (left, top) on.
struct LetterboxImage {
  const uint8_t* pixels = nullptr;
  int32_t width = 0, height = 0;
  int32_t resized_width = 0, resized_height = 0;
  int32_t left = 0, top = 0;
};

struct Letterbox {
  const LetterboxImage* images = nullptr;  // [batch], where the kernel runs
  int64_t batch = 0;
  int32_t width = 0, height = 0;  // of the canvas
  uint8_t pad = 114;
  // [batch, height, width, 3] each; either may be null.
  uint8_t* bytes = nullptr;
  float* floats = nullptr;  // divided by 255
};

// --- augmentation -------------------------------------------------------------------------------

// An image on a canvas, its upper left corner at (left, top), which may lie outside.
struct PlacedImage {
  const uint8_t* pixels = nullptr;
  int32_t width = 0, height = 0;
  int32_t left = 0, top = 0;
};

// Images on a canvas (a mosaic's four, or one), seen through an affine map. Where images overlap
// the last one wins; uncovered pixels get the pad value.
struct AugmentPicture {
  PlacedImage image[4];
  int32_t images = 0;
  int32_t canvas_width = 0, canvas_height = 0;
  double inverse[6] = {};  // rows of the matrix from result pixels to canvas pixels
};

struct AugmentSample {
  AugmentPicture picture[2];
  int32_t pictures = 1;    // 2: mixup
  double mix_ratio = 1.0;  // the weight of the first picture
  int32_t jitter = 0;      // not 0: colours through the tables
  uint8_t hue[256] = {};   // data/augment/hsv.h, HsvTables
  uint8_t saturation[256] = {};
  uint8_t value[256] = {};
  int32_t flip_up_down = 0, flip_left_right = 0;
};

// out[n, y, x] = the pixel of the mixed, warped, colour-jittered pictures of sample n that the
// flips move to (x, y).
struct Augment {
  const AugmentSample* samples = nullptr;  // [batch], where the kernel runs
  int64_t batch = 0;
  int32_t width = 0, height = 0;
  uint8_t pad = 114;
  uint8_t* bytes = nullptr;  // [batch, height, width, 3]; either may be null
  float* floats = nullptr;   // divided by 255
};

}  // namespace sextant::kernels
