// Non-maximum suppression with the semantics of the official yolov6/utils/nms.py, to the row.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/stream.h"

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
  float conf = 0.25f;            // only scores above are kept
  double iou = 0.45;             // a box whose IoU with a better one is above this is dropped
  bool multi_label = false;      // every class of an anchor above conf, not only its best
  bool agnostic = false;         // boxes of different classes suppress each other too
  std::vector<int32_t> classes;  // only these; empty: all
  int64_t max_det = 300;         // results per image
  int64_t max_candidates = 30000;
  float class_offset = 4096;  // classes are kept apart by moving their boxes this far
};

namespace cpu {

// Appends the candidates of one prediction row (5 + classes values as below): every class above
// conf with multi_label and more than one class, else the best class when it is above; the first
// one at a tie.
void append_candidates(const float* row, int64_t classes, float conf, bool multi_label,
                       std::vector<Detection>& out);

// Greedy suppression of one image's candidates (scores are already above conf; conf and multi_label
// are not looked at). Takes the classes asked for, of these the max_candidates best, and returns at
// most max_det, by falling score; equal scores in the order of `candidates`. IoU in float32, of the
// offset boxes, without any eps.
std::vector<Detection> suppress(std::span<const Detection> candidates, const NmsOptions& options);

}  // namespace cpu

// Decoded predictions [N, anchors, 5 + classes], rows cx cy w h objectness scores (decode.h writes
// them) -> detections per image. A row counts when objectness and its best class score are both
// above conf; a detection's score is objectness * class score.
struct NmsInput {
  const float* predictions = nullptr;
  int64_t batch = 0;
  int64_t anchors = 0;
  int64_t classes = 0;
};

namespace cpu {
std::vector<std::vector<Detection>> non_max_suppression(const NmsInput& input,
                                                        const NmsOptions& options);

}  // namespace cpu

namespace cuda {
// The most that max_det may be, and one more than the largest class that `classes` may name.
inline constexpr int64_t kMaxKept = 2048;
inline constexpr int kMaxNamedClass = 1024;
// As cpu::non_max_suppression(), without synchronisation with the host: count[n] detections of
// image n are written to out[n * max_det], the rest of its places is not touched; all in device
// memory. A box may fall to the other side where an IoU is within rounding of the limit.
// `workspace`: device memory of non_max_suppression_workspace() bytes, aligned to 8, contents
// undefined: it has room for all candidates that there might be.
int64_t non_max_suppression_workspace(const NmsInput& input, const NmsOptions& options);
void non_max_suppression(const NmsInput& input, const NmsOptions& options, Detection* out,
                         int32_t* count, void* workspace, Stream stream);
}  // namespace cuda

}  // namespace sextant::kernels
