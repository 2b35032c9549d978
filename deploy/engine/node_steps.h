// SPDX-License-Identifier: Apache-2.0
// What each kind of node becomes in an engine. Internal to deploy/engine.
#pragma once

#include "deploy/engine/program_builder.h"

namespace sextant::deploy {

struct NodeSteps {
  NodeKind kind;
  // Adds the steps of a node of this kind to the program.
  void (*emit)(ProgramBuilder&, const Node&);
  bool writes_with_pitch = true;  // see Place
};

// Throws Error for a kind that engines do not run.
const NodeSteps& steps_of(NodeKind kind);

// conv_node_steps.cpp: a conv or deconv, in floats, int8 or integers only.
void emit_conv(ProgramBuilder& b, const Node& node);

}  // namespace sextant::deploy
