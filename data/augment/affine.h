// SPDX-License-Identifier: Apache-2.0
// Random affine transformation of an image and its boxes, as in the official data_augment.py with
// OpenCV (get_transform_matrix, random_affine, box_candidates).
#pragma once

#include <array>
#include <vector>

#include "core/rng.h"
#include "data/image/image.h"

namespace sextant::data {

// A box in pixels during augmentation.
struct PixelLabel {
  int category = 0;
  float x1 = 0, y1 = 0, x2 = 0, y2 = 0;
};

// Ranges of the draws. degrees and shear are in degrees, translate relative to the result's size,
// scale the largest deviation of the factor from 1.
struct AffineRanges {
  double degrees = 0.0;
  double translate = 0.1;
  double scale = 0.5;
  double shear = 0.0;
};

struct AffineDraws {
  double angle = 0.0;  // degrees, in [-degrees, degrees]; positive turns counter-clockwise
  double scale = 1.0;  // in [1 - scale, 1 + scale]
  double shear_x = 0.0;
  double shear_y = 0.0;
  double translate_x = 0.5;  // in [0.5 - translate, 0.5 + translate], 0.5 keeps the centre
  double translate_y = 0.5;
};
AffineDraws draw_affine(const AffineRanges& ranges, Rng& rng);

// Rows of a 2x3 matrix that maps source pixels to result pixels.
using AffineMatrix = std::array<double, 6>;

// translate * shear * rotate-and-scale about the source's centre.
AffineMatrix affine_matrix(const AffineDraws& draws, int source_width, int source_height, int width,
                           int height);

// From result pixels back to source pixels.
AffineMatrix inverse(const AffineMatrix& matrix);

// cv2.warpAffine with INTER_LINEAR and a constant border, bit for bit: coordinates in 1/32 pixel,
// weights in 1/1024. Writes height rows of 3 * width bytes at `out`.
void warp_affine_into(const Image& source, const AffineMatrix& matrix, int width, int height,
                      uint8_t border, uint8_t* out);
Image warp_affine(const Image& source, const AffineMatrix& matrix, int width, int height,
                  uint8_t border = kPadValue);

// Columns [left, right) and rows [top, bottom).
struct Window {
  int left = 0, top = 0, right = 0, bottom = 0;
};
// The pixels of the source that a warp of it to width x height can look at.
Window seen_through(const AffineMatrix& matrix, int width, int height, int source_width,
                    int source_height);

struct BoxThresholds {
  double side = 2.0;     // pixels; both sides must be larger
  double aspect = 20.0;  // larger side over smaller side must be less
  double area = 0.1;     // minimum share of the original area
};
// Whether to keep a box after an augmentation. `before` is x1 y1 x2 y2, in the scale of `after`.
// (box_candidates of the official code, with its eps of 1e-16.)
bool box_candidate(const std::array<double, 4>& before, const std::array<double, 4>& after,
                   const BoxThresholds& thresholds = {});

// The bounding boxes of the transformed boxes, clipped to the result, without those that
// box_candidate() rejects. `scale` is the drawn scale.
std::vector<PixelLabel> transform_labels(const std::vector<PixelLabel>& labels,
                                         const AffineMatrix& matrix, double scale, int width,
                                         int height);

}  // namespace sextant::data
