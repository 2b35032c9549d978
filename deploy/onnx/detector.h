// SPDX-License-Identifier: Apache-2.0
// Recognises the end of a detector exported by another tool, by what it computes instead of by its
// operators. Internal to deploy/onnx.
#pragma once

#include <onnx/onnx_pb.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "deploy/graph/graph.h"

namespace sextant::deploy {

// The shape [N,H,W,C] of the image or map of that name; null if unknown.
using OnnxMaps = std::function<const Shape*(const std::string&)>;

struct OnnxModelEnd {
  const onnx::GraphProto& graph;
  int64_t opset = 13;
  int64_t batch = 1;
  std::string image;
  float cell_offset = 0.5f;  // of the grid; 0.5 is tried as well
  OnnxMaps maps;
};

struct OnnxDetector {
  std::vector<std::string> inputs;  // of the decode node
  DecodeAttributes attributes;
};

// Follows the outputs back to the convolutions that they come from, evaluates what lies between on
// random maps, and looks for a value that kernels/detection/decode.h gives for the same maps: rows
// [N, A, 5 + classes] (centre, size, objectness, scores), or without the objectness
// [N, A, 4 + classes] or [N, 4 + classes, A]. That value has to be an output, or the only input of
// a non-maximum suppression; of the latter, the corners [N, A, 4] and the scores of detections
// [N, classes, A] may be the inputs as well. Returns nothing if no such value is found.
std::optional<OnnxDetector> find_detector(const OnnxModelEnd& end);

// The same where the outputs are the maps of a YOLOv6 head themselves, class logits and distances
// (and objectness) of each level, in any order. `classes` 0: unknown. Throws Error when they are
// not, or when their roles are ambiguous.
OnnxDetector detector_of_maps(const OnnxModelEnd& end, int64_t classes);

}  // namespace sextant::deploy
