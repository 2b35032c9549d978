// An ONNX model as a deploy graph: our own exports, and ordinary convolutional networks, float or
// with QuantizeLinear / DequantizeLinear pairs.
//
// The model has one image input [N,3,H,W] and one output (or those of our own nms); the decoding of
// a detector becomes our decode node, and a suppression behind it is left out. Constant
// weights, batch-norm, padding, flattening and fully connected layers become convolutions; the
// graph comes fused. Ranges of Q/DQ pairs become ranges of the graph: those of tensors that share
// one (deploy/graph/ranges.h) are widened to the largest, zero points to the symmetric range around
// them. docs/onnx.md lists the operators.
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
};

// Throws one Error naming the file, and operator and node where there is one: no ONNX model,
// weights in files that are not beside it, unsupported operators (all of them by name), shapes that
// do not fit.
Graph load_onnx(const std::filesystem::path& path, const OnnxImportOptions& options = {});
// The same from memory, without weights in other files; `source` starts the messages.
Graph from_onnx(const std::string& bytes, const std::string& source,
                const OnnxImportOptions& options = {});

}  // namespace sextant::deploy
