// SPDX-License-Identifier: Apache-2.0
// Exports both ends of a model: its images, and the decoding of a detector. Import handles them in
// import.cpp.
#include "deploy/onnx/exporter.h"
#include "deploy/onnx/nodes.h"
#include "deploy/onnx/tail.h"

namespace sextant::deploy {
namespace {

using onnx::TensorProto;

void export_input(OnnxExporter& e, const Node& node) {
  e.finish(node, e.half() ? e.writer().node("Cast", "images/half", {"images"},
                                            {{"to", int64_t{TensorProto::FLOAT16}}})
                          : "images");
}

void export_decode(OnnxExporter& e, const Node& node) {
  const auto& a = node.as<DecodeAttributes>();
  const std::optional<OnnxNms>& nms = e.options().nms;
  OnnxTail tail{node.name, {}, a, e.half(), nms};
  std::vector<Shape> shapes;
  const int64_t anchors = e.shape(node.output)[1];
  for (const int t : node.inputs) {
    tail.inputs.push_back(e.value(t));
    shapes.push_back(e.shape(t));
  }
  if (nms) {
    constexpr int64_t kUsual = 300;
    int64_t& most = tail.nms->max_det;
    const int64_t candidates = anchors * (nms->multi_label ? a.num_classes : 1);
    if (most == 0) most = std::min(kUsual, candidates);
    check(most >= 1 && most <= candidates, "onnx: max_det {} must be in [1, {}]", most, candidates);
    check(nms->conf > 0, "onnx: nms needs a confidence above 0");
  }
  write_tail(e.writer(), tail, shapes);
  if (nms) {
    const int64_t k = tail.nms->max_det;
    e.writer().value(false, "num_dets", TensorProto::INT32, {e.batch(), 1});
    e.writer().value(false, "det_boxes", TensorProto::FLOAT, {e.batch(), k, 4});
    e.writer().value(false, "det_scores", TensorProto::FLOAT, {e.batch(), k});
    e.writer().value(false, "det_classes", TensorProto::INT32, {e.batch(), k});
  } else {
    e.writer().value(false, "outputs", TensorProto::FLOAT, {e.batch(), anchors, 5 + a.num_classes});
  }
  e.metadata(&tail);
}

constexpr OnnxExport kExports[] = {{NodeKind::kInput, export_input},
                                   {NodeKind::kDecode, export_decode}};

}  // namespace

OnnxNodes end_nodes() { return {{}, kExports}; }

}  // namespace sextant::deploy
