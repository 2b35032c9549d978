// SPDX-License-Identifier: Apache-2.0
// Non-maximum suppression that gives exactly the rows of the official yolov6/utils/nms.py.
#pragma once

#include <cstdint>
#include <vector>

namespace sextant::kernels {

// One box of an image; pixels of the network's input.
struct Detection {
  float x1 = 0;
  float y1 = 0;
  float x2 = 0;
  float y2 = 0;
  float score = 0;
  int32_t class_id = 0;
};

struct NmsOptions {
  float conf = 0.25f;              // only scores above are kept
  double iou = 0.45;               // a box whose IoU with a better one is above this is dropped
  bool multi_label = false;        // every class of an anchor above conf, not only its best
  bool agnostic = false;           // boxes of different classes suppress each other too
  std::vector<int32_t> classes{};  // only these; empty: all
  int64_t max_det = 300;           // results per image
  int64_t max_candidates = 30000;
  float class_offset = 4096;  // classes are kept apart by moving their boxes this far
};

// Decoded predictions [N, anchors, 5 + classes], rows cx cy w h objectness scores (decode.h writes
// them) -> detections per image.
//
// A row counts when objectness and its best class score are both above conf; a detection's score is
// objectness * class score, which has to be above conf too. Each row gives every such class with
// multi_label and more than one class, else its best one, the first at a tie. Of these the classes
// asked for are taken, of those the max_candidates best; they are suppressed greedily, by falling
// score, equal scores by anchor and class. IoU in float32, of the offset boxes, without any eps.
//
// On CUDA the decision may differ when an IoU is within rounding of the limit.
struct NonMaxSuppression {
  const float* predictions = nullptr;
  int64_t batch = 0;
  int64_t anchors = 0;
  int64_t classes = 0;
  NmsOptions options{};
  // [N, max_det] and [N]: the best count[n] of image n, by falling score, are written to
  // out[n * max_det]; the rest of its places is not touched.
  Detection* out = nullptr;
  int32_t* count = nullptr;
};

namespace cuda {
// The most that max_det may be, and one more than the largest class that `classes` may name.
inline constexpr int64_t kMaxKept = 2048;
inline constexpr int kMaxNamedClass = 1024;
int64_t workspace_bytes(const NonMaxSuppression& p);
}  // namespace cuda

}  // namespace sextant::kernels
