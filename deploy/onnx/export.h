// SPDX-License-Identifier: Apache-2.0
// A deploy graph as an ONNX model: opset 13, valid for ONNX's own checker.
//
// Input `images`: f32 [N,3,H,W], RGB in 0..1. With a decode node the output is `outputs`, f32
// [N, A, 5 + classes], rows (cx, cy, w, h in pixels, 1, class scores) as the engine's; else the
// graph's last tensor as f32 [N,C,H,W], or [N,C] where it is one pixel. With `nms` the outputs are
//   num_dets i32 [N,1] · det_boxes f32 [N,K,4] (x1 y1 x2 y2, pixels) · det_scores f32 [N,K] ·
//   det_classes i32 [N,K]
// best first; rows past num_dets hold zeros and class -1. K is max_det, or the number of boxes where
// that is smaller. See docs/onnx.md.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "deploy/graph/graph.h"

namespace sextant::deploy {

enum class OnnxPrecision {
  kFloat32,
  kFloat16,  // weights and activations; input, decode and outputs stay f32
  kInt8      // QuantizeLinear / DequantizeLinear with the graph's ranges
};
constexpr auto enum_names(OnnxPrecision) {
  return make_enum_names<OnnxPrecision>("precision of an ONNX model",
                                        {{OnnxPrecision::kFloat32, "fp32"},
                                         {OnnxPrecision::kFloat16, "fp16"},
                                         {OnnxPrecision::kInt8, "int8"}});
}

// Whose rules the Q/DQ pairs of an int8 model follow; docs/onnx.md has them.
enum class OnnxTarget {
  kOpenVino,     // pairs where our engine holds integers; u8 where it does; int32 biases
  kOnnxRuntime,  // also between a convolution and the operation fused into it (SiLU, a residual),
                 // where our engine does not round: it has integer convolutions only between pairs
  kTensorRt      // s8 with zero point 0 everywhere, float biases, weights as float levels in pairs
};
constexpr auto enum_names(OnnxTarget) {
  return make_enum_names<OnnxTarget>("runtime", {{OnnxTarget::kOpenVino, "openvino"},
                                                 {OnnxTarget::kOnnxRuntime, "onnxruntime"},
                                                 {OnnxTarget::kTensorRt, "tensorrt"}});
}

// As in kernels/detection/nms.h.
struct OnnxNms {
  float conf = 0.25f;
  float iou = 0.45f;
  int64_t max_det = 300;  // at most; a model may have fewer boxes
  bool multi_label = false;
};

struct OnnxOptions {
  OnnxPrecision precision = OnnxPrecision::kFloat32;
  int64_t batch = 1;
  bool dynamic_batch = false;  // N is symbolic; shapes are then checked at `batch`
  int64_t height = 640;
  int64_t width = 640;
  bool dynamic_size = false;  // height and width are symbolic; checked at those and at twice those
  std::optional<OnnxNms> nms;
  OnnxTarget target = OnnxTarget::kOpenVino;  // read for int8 alone
};

// The serialized model. Throws Error naming the graph, and the node if one is at fault: not fused,
// a size that does not fit, int8 without ranges, nms without a decode node, weights too large for
// fp16, dynamic_size where layers are as large as the map that they read.
std::string to_onnx(const Graph& graph, const OnnxOptions& options);

// Written under a temporary name and renamed.
void save_onnx(const std::filesystem::path& path, const Graph& graph, const OnnxOptions& options);

}  // namespace sextant::deploy
