// SPDX-License-Identifier: Apache-2.0
// What an engine executes: a list of steps over places in the arena.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/dtype.h"

namespace sextant::deploy {

// Where each storage starts, settled before a run.
using Bases = std::vector<std::byte*>;

// Pixels of C elements in a storage. `pitch` elements lie between one pixel and the next: C when
// dense, more for a slice of a concat's buffer.
struct Place {
  int storage = -1;
  int64_t byte_offset = 0;
  int64_t pitch = 0;
  int64_t channels = 0;
  DType dtype = DType::kF32;

  bool dense() const { return pitch == channels; }
  std::byte* at(const Bases& bases) const {
    return bases[static_cast<size_t>(storage)] + byte_offset;
  }
  template <class T>
  T* as(const Bases& bases) const {
    return reinterpret_cast<T*>(at(bases));
  }
};

class Step {
 public:
  Step() = default;
  virtual ~Step() = default;
  Step(const Step&) = delete;
  Step& operator=(const Step&) = delete;

  // Changes what the bases point to and nothing else, so that engines can share a step.
  virtual void run(const Bases& bases) const = 0;

  std::string kind;
  std::string implementation = "own";
  int node = -1;              // index in graph.nodes
  std::vector<int> storages;  // all it touches
  double flops = 0;
  int64_t weight_bytes = 0;
};

// A step made of a function of the bases.
template <class F>
class FunctionStep : public Step {
 public:
  FunctionStep(const char* step_kind, std::vector<int> touched, F f) : f_(std::move(f)) {
    kind = step_kind;
    storages = std::move(touched);
  }
  void run(const Bases& bases) const override { f_(bases); }

 private:
  F f_;
};

template <class F>
std::unique_ptr<Step> make_step(const char* kind, std::vector<int> touched, F f) {
  return std::make_unique<FunctionStep<F>>(kind, std::move(touched), std::move(f));
}

// Calls f with a value of the element type: uint8_t, int8_t, int32_t or float.
template <class F>
void dispatch_type(DType type, F&& f) {
  if (type == DType::kU8) return f(uint8_t{});
  if (type == DType::kI8) return f(int8_t{});
  if (type == DType::kI32) return f(int32_t{});
  f(float{});
}

}  // namespace sextant::deploy
