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
  OnnxTail tail{node.name, {}, a, e.half(), e.options().dynamic_size, nms};
  std::vector<Shape> shapes;
  const int64_t anchors = e.shape(node.output)[1];
  for (const int t : node.inputs) {
    tail.inputs.push_back(e.value(t));
    shapes.push_back(e.shape(t));
  }
  if (nms) {
    int64_t& most = tail.nms->max_det;
    check(most >= 1, "onnx: max_det is {}, must be at least 1", most);
    if (!tail.dynamic_size) most = std::min(most, anchors * (nms->multi_label ? a.num_classes : 1));
    check(nms->conf > 0, "onnx: nms needs a confidence above 0");
  }
  write_tail(e.writer(), tail, shapes);
  if (nms) {
    const OnnxDim k = e.of_size(tail.nms->max_det, "detections");
    e.writer().value(false, "num_dets", TensorProto::INT32, {e.batch(), 1});
    e.writer().value(false, "det_boxes", TensorProto::FLOAT, {e.batch(), k, 4});
    e.writer().value(false, "det_scores", TensorProto::FLOAT, {e.batch(), k});
    e.writer().value(false, "det_classes", TensorProto::INT32, {e.batch(), k});
  } else {
    e.writer().value(false, "outputs", TensorProto::FLOAT,
                     {e.batch(), e.of_size(anchors, "anchors"), 5 + a.num_classes});
  }
  e.metadata(&tail);
}

constexpr OnnxExport kExports[] = {{NodeKind::kInput, export_input},
                                   {NodeKind::kDecode, export_decode}};

}  // namespace

OnnxNodes end_nodes() { return {{}, kExports}; }

}  // namespace sextant::deploy
