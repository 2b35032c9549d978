// From the head's outputs to boxes: the last step of a detector.
//
// Per level: class logits [N,H,W,classes] and distances [N,H,W,4*max(1, reg_max+1)] (l t r b in
// cells; with reg_max > 0 four softmax distributions). Anchors in the order of kernels/anchors.h.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "core/dtype.h"
#include "kernels/anchors.h"
#include "kernels/nms.h"

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
};

struct Decode {
  std::array<DecodeLevel, kMaxLevels> level;
  int levels = 0;
  int64_t batch = 0;
  int64_t classes = 0;
  int64_t reg_max = 0;  // 0: plain distances
  float cell_offset = 0.5f;
  DType dtype = DType::kF32;  // of cls and reg; CUDA: F16 too

  int64_t anchors() const {
    int64_t n = 0;
    for (int l = 0; l < levels; ++l) n += level[l].height * level[l].width;
    return n;
  }
};

namespace cpu {

// out [N, anchors, 5 + classes]: cx cy w h in pixels, 1, sigmoid scores. Overwritten.
void decode(const Decode& p, float* out);

// What non_max_suppression() would take as candidates from decode()'s output, bit for bit and in
// the same order, without computing the rest: the classes of an anchor above `conf` (its best one
// only when multi_label is false or there is one class).
std::vector<std::vector<Detection>> decode_candidates(const Decode& p, float conf,
                                                      bool multi_label);

}  // namespace cpu

namespace cuda {
void decode(const Decode& p, float* out, Stream stream);
}  // namespace cuda

}  // namespace sextant::kernels
