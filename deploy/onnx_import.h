// An ONNX model as a deploy graph: our own exports, and ordinary convolutional networks, float or
// with QuantizeLinear / DequantizeLinear pairs.
//
// The model has one image input [N,3,H,W] and one output (or those of our own nms). Constant
// weights, batch-norm, padding, flattening and fully connected layers become convolutions; the
// graph comes fused. Ranges of Q/DQ pairs become ranges of the graph: those of tensors that share
// one (deploy/ranges.h) are widened to the largest, zero points to the symmetric range around them.
// docs/onnx.md lists the operators.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "deploy/graph.h"

namespace sextant::deploy {

struct OnnxImportOptions {
  int64_t image_size = 0;                // for a model without fixed height and width; 0: as stored
  std::vector<std::string> class_names;  // empty: those in the file, if any
};

// Throws one Error naming the file, and operator and node where there is one: no ONNX model,
// weights in other files, unsupported operators (all of them by name), shapes that do not fit.
Graph load_onnx(const std::filesystem::path& path, const OnnxImportOptions& options = {});
// The same from memory; `source` starts the messages.
Graph from_onnx(const std::string& bytes, const std::string& source,
                const OnnxImportOptions& options = {});

}  // namespace sextant::deploy
