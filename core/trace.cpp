// SPDX-License-Identifier: Apache-2.0
#include "core/trace.h"

namespace sextant::trace {
namespace {
thread_local Recorder* current = nullptr;
}

Recorder::Recorder() : before_(current) { current = this; }
Recorder::~Recorder() { current = before_; }
bool active() { return current != nullptr; }
void record(Op op) {
  if (current) current->ops_.push_back(std::move(op));
}

}  // namespace sextant::trace
