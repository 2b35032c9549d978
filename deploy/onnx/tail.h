// SPDX-License-Identifier: Apache-2.0
// The end of a detector as ONNX operators: decoding, and optionally NMS.
//
// Internal to deploy/onnx. The importer recognises the end of our own models by writing it again
// from the file's metadata and comparing node by node, so metadata is never trusted.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/config.h"
#include "deploy/graph/graph.h"
#include "deploy/onnx/export.h"
#include "deploy/onnx/writer.h"

namespace sextant::deploy {

struct OnnxTail {
  std::string name;  // of the decode node; names of nodes and constants begin with "<name>/"
  std::vector<std::string> inputs;  // the ONNX values that decode reads, level by level
  DecodeAttributes attributes;
  bool half = false;          // the values are f16
  bool dynamic_size = false;  // anchors are computed from the sizes of the inputs
  std::optional<OnnxNms> nms;
};

// `shapes`: [N,H,W,C] of each input; unused with dynamic_size. Writes nodes and constants; the outputs' names are
// tail_outputs().
void write_tail(OnnxWriter& writer, const OnnxTail& tail, const std::vector<Shape>& shapes);

// {"outputs"} or {"num_dets", "det_boxes", "det_scores", "det_classes"}.
std::vector<std::string> tail_outputs(const OnnxTail& tail);

Json tail_to_json(const OnnxTail& tail);
// Throws Error naming the key; messages start with `where`.
OnnxTail tail_from_json(const Json& json, const std::string& where);

}  // namespace sextant::deploy
