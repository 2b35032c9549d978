// SPDX-License-Identifier: Apache-2.0
// Builds the program of a graph node by node. Internal to deploy/engine: what each kind of node
// becomes is in node_steps.cpp and conv_node_steps.cpp.
#pragma once

#include <memory>
#include <vector>

#include "deploy/engine/data_steps.h"
#include "deploy/engine/program.h"
#include "kernels/backend.h"

namespace sextant::deploy {

class ProgramBuilder {
 public:
  // All three have to outlive it.
  ProgramBuilder(const Graph& graph, const EngineConfig& config, const BuildOptions& options);
  Program build();

  // ---- what the steps are for
  const Graph& graph() const { return graph_; }
  const EngineConfig& config() const { return config_; }
  const Backend& on() const { return on_; }
  bool cuda() const { return config_.device == Device::kCuda; }
  bool integer() const { return config_.precision == Precision::kInteger; }
  bool int8() const { return integer() || config_.precision == Precision::kInt8; }
  DType float_type() const {  // of tensors that are not held as integers
    return config_.precision == Precision::kFloat16 ? DType::kF16 : DType::kF32;
  }

  // ---- tensors
  const std::vector<Shape>& shapes() const { return program_.shapes; }
  const Shape& shape(int t) const { return program_.shapes[static_cast<size_t>(t)]; }
  int64_t rows(int t) const { return shape(t).numel() / shape(t)[-1]; }
  const TensorInfo& info(int t) const { return graph_.tensors[static_cast<size_t>(t)]; }
  const Place& place(int t) const { return program_.tensors[static_cast<size_t>(t)]; }
  bool quantized(int t) const { return program_.quantized[static_cast<size_t>(t)]; }
  Meaning meaning(int t) const;
  // Numbers of one tensor mean the same in the other.
  bool same_meaning(int a, int b) const;
  DType held_as(int t) const;

  // ---- places
  static Place dense(int storage, int64_t channels, DType dtype) {
    return {.storage = storage, .pitch = channels, .channels = channels, .dtype = dtype};
  }
  Place scratch(int64_t row_count, int64_t channels, DType dtype) {
    return dense(new_storage(row_count * channels * size_of(dtype)), channels, dtype);
  }
  // Channels [begin, begin + count) of a place.
  static Place part(Place p, int64_t begin, int64_t count);

  // ---- steps
  void add(std::unique_ptr<Step> step);
  EngineStats& stats() { return program_.stats; }
  // The tensor as floats: its place when it is held so, else a converted copy.
  Place as_float(int t);
  // Floats at `source` to where the tensor lies, in its form.
  void from_float(const Place& source, int t);
  // The place of a tensor as numbers that mean what those of `like` mean: its own, or that of a
  // requantized copy. Only ranges that were not unified need one.
  Place as_meant(int t, int like);
  // From one place to another of as many channels: a copy where both mean the same.
  void move(int t, const Place& from, int like, const Place& to);

 private:
  void check_device() const;
  void hold_tensors();
  void assign_places();
  bool fits_in_place(const Node& concat, int t) const;
  void emit_result();
  void finish();
  int new_storage(int64_t bytes);
  void requantize(int t, const Place& from, int like, const Place& to);
  const Node& maker(int t) const {
    return graph_.nodes[static_cast<size_t>(producers_[static_cast<size_t>(t)])];
  }

  const Graph& graph_;
  const EngineConfig& config_;
  const BuildOptions& options_;
  const Backend& on_;
  std::vector<std::vector<int>> consumers_;
  std::vector<int> producers_;
  Program program_;
  std::vector<int64_t> storage_bytes_;
  int node_ = -1;
};

}  // namespace sextant::deploy
