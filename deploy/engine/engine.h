// SPDX-License-Identifier: Apache-2.0
// Runs a fused graph. On the CPU: f32, int8 (u8/s8 activations, s8 weights, i32 sums), or fully in
// integers (kInteger): sums scaled by fixed-point multipliers, integer head outputs, decoded in
// integers; run() turns the result into f32. On CUDA: f32, f16 or int8, with the CPU's integers (but
// behind an exponential).
//
// Everything is settled at construction, for one batch and image size: shapes, each convolution's
// algorithm, weights packed for it, and one arena that holds all activations at offsets chosen by
// when each is alive. run() then only executes; on CUDA that is to start kernels
// on memory that never moves, without an allocation or a wait.
//
//   Engine engine(graph, {.batch = 1, .height = 640, .width = 640, .precision = Precision::kInt8});
//   Tensor pred = engine.run(images);   // u8 [1,640,640,3] RGB -> f32 [1,8400,5+classes]
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "deploy/graph/graph.h"

namespace sextant::deploy {

struct EngineConfig {
  int64_t batch = 1;
  int64_t height = 640;
  int64_t width = 640;
  Precision precision = Precision::kFloat32;
  // fp32 only: images are f32 in 0..1 instead of u8, to compare with float references.
  bool float_images = false;
  // int8 only: compute each integer operation in f32 on integer values instead; see simulate.h.
  bool simulate = false;
  // integer only: the plain kernels that define the result, in place of the fast ones.
  bool plain = false;
  // kCuda: fp32, fp16 or int8, and no simulation.
  Device device = Device::kCpu;
};

// A tensor as an observer sees it, valid during the call. Value = stored number * scale. run()
// shows a copy on the host, which waits for a device and has F16 as f32; run_on_device() shows the
// memory of the device itself.
struct TensorView {
  int id = -1;  // in graph.tensors
  const TensorInfo* info = nullptr;
  Shape shape;  // [N,H,W,C]
  const void* data = nullptr;
  DType dtype = DType::kF32;     // f32, u8, s8 or (fully integer heads, result) i32
  int64_t pitch = 0;             // elements from one pixel to the next; C when dense
  float scale = 1.0f;            // of one step; 1 for a tensor held as f32
  Device device = Device::kCpu;  // where `data` lies

  Tensor values() const;  // dense f32 copy, dequantized, on the same device
  // On the host only:
  Tensor integers() const;  // dense i32 copy of the stored numbers; throws for plain f32 tensors
  // Overwrites the stored integers: the layers behind then run on these. For comparisons.
  void assign(const Tensor& integers) const;
  Tensor copy;               // what `data` points into, where it is a copy ...
  void* original = nullptr;  // ... of this device memory
  bool quantized = false;  // stored numbers are integers (also in a simulation, where they are f32)
};
using Observer = std::function<void(const TensorView&)>;

struct EngineStats {
  int64_t arena_bytes = 0;      // activations and scratch, as planned
  int64_t unplanned_bytes = 0;  // the same without sharing memory
  int64_t weight_bytes = 0;
  int64_t steps = 0;
  int64_t requantizations = 0;   // steps that only rescale integers: none when ranges are unified
  int64_t concats_in_place = 0;  // concat inputs written straight into the concat's buffer
  int64_t concat_copies = 0;     // concat inputs copied there
};

struct StepTime {
  std::string name;            // node name
  std::string kind;            // "conv", "copy", ...
  std::string implementation;  // of a convolution, its algorithm; else "own"
  double milliseconds = 0;     // sum over all timed runs
  double flops = 0;            // of one run; 0 for anything but convolutions
};

class Engine {
 public:
  // Throws Error when the graph is not fused, the size does not fit, or precision is int8 and the
  // graph has no ranges ("FILE: has no activation ranges; run sextant quantize").
  Engine(const Graph& graph, const EngineConfig& config);
  ~Engine();
  Engine(Engine&&) noexcept;
  Engine& operator=(Engine&&) noexcept;
  // Another engine over the same weights, with activations of its own: for another thread.
  Engine sibling() const;

  // images: u8 [N,H,W,3] of the configured size. Returns the output tensor of the graph as f32:
  // with a decode node [N, A, 5 + num_classes], rows (cx, cy, w, h in pixels, objectness or 1,
  // class scores). Not thread-safe; one engine per thread. `observer` is called after each node, in
  // node order, with the node's output. The images may be on the host or on the engine's device.
  Tensor run(const Tensor& images, const Observer& observer = nullptr);
  // As run(), but the result stays on the engine's device, where the next run overwrites it, and
  // the observer is shown tensors there; on CUDA this starts the work on compute_stream() and
  // returns.
  Tensor run_on_device(const Tensor& images, const Observer& observer = nullptr);

  const EngineConfig& config() const;
  const Graph& graph() const;
  const EngineStats& stats() const;
  // Times of each step, the sum of `runs` runs: a clock around each on the CPU; on CUDA around
  // `runs` starts of a step in a row, so that no wait for the device is in it.
  std::vector<StepTime> profile(const Tensor& images, int runs);

 private:
  struct Impl;
  explicit Engine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sextant::deploy
