// SPDX-License-Identifier: Apache-2.0
// Resizing 8-bit RGB images, bit for bit as OpenCV 4.6 does (cv2.resize), which is what the models'
// published figures were measured with. Checked against fixtures post/letterbox_image and
// data/load_image.
#pragma once

#include "core/tensor.h"
#include "data/image/image.h"

namespace sextant::data {

// INTER_LINEAR: half-pixel centres, 11-bit coefficients, no smoothing when shrinking, except that a
// shrink by exactly 2 in both directions is the mean of 2x2 pixels (OpenCV's rule). Throws Error
// unless both sides are positive and the image is not empty.
Image resize_bilinear(const Image& image, int width, int height);

// INTER_AREA: each result is the mean over the area it covers; if a side grows, OpenCV's variant of
// linear interpolation for this mode.
Image resize_area(const Image& image, int width, int height);

// Like resize_bilinear(), into rows of `pitch` bytes at `out` (height rows of 3 * width bytes).
void resize_bilinear_into(const Image& image, int width, int height, uint8_t* out, int64_t pitch);

// Resizes a batch u8 [N,H,W,3] to height x width, each image by resize_bilinear().
Tensor resize_batch(const Tensor& images, int height, int width);

}  // namespace sextant::data
