// SPDX-License-Identifier: Apache-2.0
// The nodes of a model in an order in which they can be imported. Internal to deploy/onnx.
#pragma once

#include <onnx/onnx_pb.h>

#include <string>

namespace sextant::deploy {

// Sorts the nodes so that each comes behind those that it reads, otherwise in their order. Leaves
// out those that no output depends on. Throws Error that names `source` and a node that depends on
// itself.
void order_nodes(onnx::GraphProto& graph, const std::string& source);

// The node's name for messages, or its first output's.
std::string label_of(const onnx::NodeProto& node);

}  // namespace sextant::deploy
