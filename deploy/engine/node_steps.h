// What each kind of node becomes in an engine. Internal to deploy/engine.
#pragma once

#include "deploy/engine/program_builder.h"

namespace sextant::deploy {

// Which kernels of a kind take tensors with a pitch (see Place). oneDNN's convolutions want dense
// ones: with a pitch on the destination they fall back to a reference kernel, 300 times slower.
enum class Pitch {
  kTaken,
  kByOwnKernels,  // not by oneDNN's
  kNot
};

struct NodeSteps {
  NodeKind kind;
  // Adds the steps of a node of this kind to the program.
  void (*emit)(ProgramBuilder&, const Node&);
  Pitch reads = Pitch::kTaken;
  Pitch writes = Pitch::kTaken;
};

// Throws Error for a kind that engines do not run.
const NodeSteps& steps_of(NodeKind kind);

// conv_node_steps.cpp: a conv or deconv, in floats, int8 or integers only.
void emit_conv(ProgramBuilder& b, const Node& node);

}  // namespace sextant::deploy
