// SPDX-License-Identifier: Apache-2.0
// Writes a graph as an ONNX model, node by node. Internal to deploy/onnx; the public interface is
// deploy/onnx/export.h. The export of each kind of node is beside its import (deploy/onnx/nodes.h).
#pragma once

#include <onnx/onnx_pb.h>

#include <string>
#include <vector>

#include "deploy/graph/ranges.h"
#include "deploy/onnx/export.h"
#include "deploy/onnx/writer.h"

namespace sextant::deploy {

struct OnnxTail;

class OnnxExporter {
 public:
  // Both arguments have to outlive it.
  OnnxExporter(const Graph& graph, const OnnxOptions& options)
      : graph_(graph), options_(options), writer_(*model_.mutable_graph()) {}
  onnx::ModelProto build();

  // ---- for the exports of each kind
  const Graph& graph() const { return graph_; }
  const OnnxOptions& options() const { return options_; }
  OnnxWriter& writer() { return writer_; }
  bool int8() const { return options_.precision == OnnxPrecision::kInt8; }
  bool meant_for(OnnxTarget target) const { return int8() && options_.target == target; }
  bool half() const { return options_.precision == OnnxPrecision::kFloat16; }
  OnnxDim batch() const {
    return options_.dynamic_batch ? OnnxDim("batch") : OnnxDim(options_.batch);
  }
  // `size`, or the symbol where height and width are free.
  OnnxDim of_size(int64_t size, const char* symbol) const {
    return options_.dynamic_size ? OnnxDim(symbol) : OnnxDim(size);
  }
  const TensorInfo& info(int t) const { return graph_.tensors[static_cast<size_t>(t)]; }
  const Shape& shape(int t) const { return shapes_[static_cast<size_t>(t)]; }
  bool quantized(int t) const {
    return int8() && info(t).has_range() && !(image_in_float_ && holds_image(graph_, t));
  }

  // The name of the value that readers of a tensor use.
  const std::string& value(int t) const { return values_[static_cast<size_t>(t)]; }
  const std::string& in(const Node& node, size_t i = 0) const { return value(node.inputs[i]); }
  // Declares x the node's result: readers use it, or the Q/DQ pair behind it.
  void finish(const Node& node, const std::string& x);
  // Exports the whole node as one ONNX node.
  void write(const std::string& type, const Node& node, const std::vector<std::string>& inputs,
             const std::vector<OnnxAttribute>& attributes = {});

  // ---- parts of nodes; each returns the name of its value
  std::string constant(const std::string& name, const Tensor& t, const std::vector<int64_t>& dims);
  // QuantizeLinear and DequantizeLinear around x, whose values are within -amax..amax, or 0..amax if
  // `is_unsigned`.
  std::string pair(const std::string& name, const std::string& x, float amax, bool is_unsigned);
  std::string activation(const std::string& name, const std::string& x, Activation a);
  // factor * x; x itself for 1.
  std::string scaled(const std::string& name, const std::string& x, float factor);
  // The model's metadata; `tail` if it ends in a decode node.
  void metadata(const OnnxTail* tail);

 private:
  bool no_int8_layer_reads_image() const;
  void describe();
  void plain_output();

  const Graph& graph_;
  const OnnxOptions& options_;
  onnx::ModelProto model_;
  OnnxWriter writer_;
  bool image_in_float_ = false;  // without a pair
  std::vector<Shape> shapes_;
  std::vector<Shape> larger_;        // with dynamic_size: of images of twice the size
  std::vector<std::string> values_;  // the name that readers of each tensor use
};

}  // namespace sextant::deploy
