// SPDX-License-Identifier: Apache-2.0
// What the code for a node has read of it, so that nothing of a model is left out silently.
// Internal to deploy/onnx.
#pragma once

#include <onnx/onnx_pb.h>

#include <set>
#include <string>

namespace sextant::deploy {

struct OnnxReads {
  std::set<std::string> attributes;
  std::set<int> inputs;
  // Throws Error naming an attribute or input that the node has and that is not among these.
  void check_all_of(const onnx::NodeProto& node) const;
};

}  // namespace sextant::deploy
