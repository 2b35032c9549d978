// SPDX-License-Identifier: Apache-2.0
// Records the operations of a forward pass, for the deploy graph.
//
// While a Recorder is alive on a thread, every function in layers/ reports the operation it ran:
// its name, its inputs and result as Variables, and its attributes, named as in deploy files.
// deploy/graph/trace.cpp turns the list into a graph. Outside a recording, record() costs one
// thread-local read.
#pragma once

#include <string>
#include <vector>

#include "core/json.h"
#include "core/variable.h"

namespace sextant::trace {

struct Op {
  std::string kind;              // "conv2d", "rep_bn_act", ...
  std::vector<Variable> inputs;  // undefined entries stand for absent optional inputs
  Variable output;
  Json attributes;
};

class Recorder {
 public:
  Recorder();
  ~Recorder();
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;
  const std::vector<Op>& ops() const { return ops_; }

 private:
  friend void record(Op);
  std::vector<Op> ops_;
  Recorder* before_;
};

bool active();
void record(Op op);

}  // namespace sextant::trace
