// SPDX-License-Identifier: Apache-2.0
// Decodes the head's outputs to boxes: the last step of a detector.
//
// Per level: class logits [N,H,W,classes], distances [N,H,W,4*max(1, reg_max+1)] (l t r b in cells;
// with reg_max > 0 four softmax distributions) and, of heads that predict it, objectness logits
// [N,H,W,1]. Anchors in the order of kernels/detection/anchors.h.
#pragma once

#include <array>
#include <cstdint>

#include "core/dtype.h"
#include "kernels/detection/anchors.h"
#include "kernels/math/activation.h"

namespace sextant::kernels {

struct DecodeLevel {
  const void* cls = nullptr;
  const void* reg = nullptr;
  int64_t height = 0;
  int64_t width = 0;
  float stride = 1.0f;
  // Elements from one pixel to the next, where the map is a slice of a wider buffer; 0: the map's
  // own channel count. Images follow each other at height * width * pitch.
  int64_t cls_pitch = 0;
  int64_t reg_pitch = 0;
  const void* obj = nullptr;  // null: every objectness is 1
  int64_t obj_pitch = 0;
};

// The outputs of a head.
struct HeadMaps {
  std::array<DecodeLevel, kMaxLevels> level;
  int levels = 0;
  int64_t batch = 0;
  int64_t classes = 0;
  int64_t reg_max = 0;  // 0: plain distances
  float cell_offset = 0.5f;
  DType dtype = DType::kF32;  // of the maps; CUDA: F16 too

  int64_t anchors() const {
    int64_t n = 0;
    for (int l = 0; l < levels; ++l) n += level[l].height * level[l].width;
    return n;
  }
};

struct Decode {
  HeadMaps maps;
  // [N, anchors, 5 + classes]: cx cy w h in pixels, sigmoid objectness (1 without), sigmoid scores.
  // Overwritten.
  float* out = nullptr;
};

// Where the gradients of a level's maps go: f32, dense, overwritten; null when not wanted.
struct DecodeGradient {
  float* cls = nullptr;
  float* reg = nullptr;
  float* obj = nullptr;
};

// Gradients of the maps from those of the rows. `out`, the rows, and dy: [N, anchors, 5 + classes].
// F32 maps.
struct DecodeBackward {
  HeadMaps maps;
  const float* out = nullptr;
  const float* dy = nullptr;
  std::array<DecodeGradient, kMaxLevels> grad;
};

// --- one definition for the CPU and CUDA --------------------------------------------------------

// The gradient of distance `side` (l t r b), from that of a row: centre = cell + (high - low) / 2
// and size = low + high, all times the stride.
SEXTANT_HD float distance_gradient(const float* dy, int side, float stride) {
  const float centre = 0.5f * dy[side % 2];
  return stride * (dy[2 + side % 2] + (side < 2 ? -centre : centre));
}
// The gradient of a sigmoid's input, from its result.
SEXTANT_HD float logit_gradient(float dy, float y) { return dy * y * (1.0f - y); }

}  // namespace sextant::kernels
