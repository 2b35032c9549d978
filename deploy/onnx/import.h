// SPDX-License-Identifier: Apache-2.0
// An ONNX model as a deploy graph: our own exports, and ordinary convolutional networks, float or
// with QuantizeLinear / DequantizeLinear pairs.
//
// The model has one image input [N,3,H,W] and one output (or those of our own nms); the decoding of
// a detector becomes our decode node, and NMS behind it is left out. Constant
// weights, batch-norm, padding, flattening and fully connected layers become convolutions; the
// graph is returned fused. Ranges of Q/DQ pairs become ranges of the graph: tensors that share a
// range (deploy/graph/ranges.h) get the largest of theirs, and asymmetric ranges are widened to
// symmetric ones. docs/onnx.md lists the operators.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "deploy/graph/graph.h"

namespace sextant::deploy {

struct OnnxImportOptions {
  int64_t image_size = 0;                // for a model without fixed height and width; 0: as stored
  std::vector<std::string> class_names;  // empty: those in the file, if any
  // The outputs are the maps of a YOLOv6 head (class logits and distances of each level, in any
  // order), to be decoded.
  bool head_maps = false;
  int64_t image_width = 0;  // where it differs from image_size, then the height
};

// Throws Error naming the file, and operator and node if one is at fault: not an ONNX model,
// weights in files outside its folder, unsupported operators (all of them by name), shapes that do
// not match.
Graph load_onnx(const std::filesystem::path& path, const OnnxImportOptions& options = {});
// The same from memory, without weights in other files; messages start with `source`.
Graph from_onnx(const std::string& bytes, const std::string& source,
                const OnnxImportOptions& options = {});

}  // namespace sextant::deploy
