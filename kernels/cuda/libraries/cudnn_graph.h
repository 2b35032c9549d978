// SPDX-License-Identifier: Apache-2.0
// cuDNN's graph API (cudnn_graph.h), as far as convolutions and what follows them need it.
//
//   OperationGraph g;
//   const int64_t x = g.tensor({n, c, h, w}, CUDNN_DATA_INT8), ...;
//   g.convolution_forward({stride, pad, CUDNN_DATA_INT32}, x, w, sums);
//   g.pointwise({CUDNN_POINTWISE_ADD}, sums, bias, y);
//   std::optional<Plan> plan = g.plan(device);
//   plan->run(handle, {{x, x_data}, ...}, workspace);
//
// Sizes are in the order N, C, H, W whatever the memory; memory is NHWC. Plans are made for a
// device by its properties alone, so that they can be made where there is none.
#pragma once

#include <cudnn_graph.h>

#include <array>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"

// Throws Error "<what>: <text> (<last message>)" unless a cuDNN call succeeds.
#define SEXTANT_CUDNN_CHECK(call, what)                            \
  do {                                                             \
    const cudnnStatus_t sextant_status_ = (call);                  \
    if (sextant_status_ != CUDNN_STATUS_SUCCESS) [[unlikely]]      \
      ::sextant::kernels::cudnn::fail_with(sextant_status_, what); \
  } while (false)

namespace sextant::kernels::cudnn {

[[noreturn]] void fail_with(cudnnStatus_t status, const std::string& what);

// Owns a backend descriptor. Throws Error for what cuDNN refuses.
class Descriptor {
 public:
  explicit Descriptor(cudnnBackendDescriptorType_t type);
  ~Descriptor();
  Descriptor(Descriptor&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }

  cudnnBackendDescriptor_t get() const { return handle_; }
  void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
           const void* values);
  void set(cudnnBackendAttributeName_t name, int64_t value);
  void set(cudnnBackendAttributeName_t name, const std::vector<int64_t>& values);
  void set(cudnnBackendAttributeName_t name, float value);
  void set(cudnnBackendAttributeName_t name, bool value);
  void set(cudnnBackendAttributeName_t name, cudnnDataType_t value);
  void set(cudnnBackendAttributeName_t name, const Descriptor& value);
  void set_text(cudnnBackendAttributeName_t name, const std::string& text);
  void finalize();

  int64_t integer(cudnnBackendAttributeName_t name) const;
  std::string text(cudnnBackendAttributeName_t name) const;

 private:
  cudnnBackendDescriptor_t handle_ = nullptr;
};

// What cuDNN has to know of a device to make plans for it.
class DeviceProperties {
 public:
  static DeviceProperties of_device(int device);
  // The text that json() returns.
  static DeviceProperties from_json(const std::string& json);
  std::string json() const;
  const Descriptor& descriptor() const { return descriptor_; }

 private:
  explicit DeviceProperties(Descriptor d) : descriptor_(std::move(d)) {}
  Descriptor descriptor_;
};

// A kernel, or several, ready to run.
class Plan {
 public:
  // From what json() returned, for the same cuDNN and a device of the same properties.
  static Plan from_json(const std::string& json, const DeviceProperties& device);
  std::string json() const;
  int64_t workspace_bytes() const { return workspace_; }

  using Bindings = std::vector<std::pair<int64_t, void*>>;  // tensor, its memory
  // On the handle's stream. `workspace`: device memory of workspace_bytes().
  void run(cudnnHandle_t handle, const Bindings& bindings, void* workspace) const;

 private:
  friend class OperationGraph;
  explicit Plan(Descriptor d);
  Descriptor descriptor_;
  int64_t workspace_ = 0;
};

// Which engines may be chosen.
struct EngineFilter {
  std::set<cudnnBackendNumericalNote_t> without = {CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC};
};

struct ConvGeometry {
  int64_t stride = 1;
  int64_t pad = 0;
  cudnnDataType_t compute = CUDNN_DATA_FLOAT;
  float beta = 0.0f;  // of what the result held before
};

struct PointwiseForm {
  cudnnPointwiseMode_t mode = CUDNN_POINTWISE_IDENTITY;
  float lower_slope = 0.0f;  // CUDNN_POINTWISE_RELU_FWD: of what is below zero
};

class OperationGraph {
 public:
  static constexpr int64_t kNone = -1;
  using Dims = std::array<int64_t, 4>;  // N, C, H, W

  // Each returns the tensor's id. `pitch`: elements from one pixel to the next, 0 for C. A virtual
  // tensor lies between two operations, without memory.
  int64_t tensor(const Dims& dims, cudnnDataType_t type, int64_t pitch = 0);
  int64_t virtual_tensor(const Dims& dims, cudnnDataType_t type);
  // A single float, by value: bound to host memory.
  int64_t scalar();

  void convolution_forward(const ConvGeometry& g, int64_t x, int64_t w, int64_t y);
  void convolution_backward_data(const ConvGeometry& g, int64_t dy, int64_t w, int64_t dx);
  void convolution_backward_filter(const ConvGeometry& g, int64_t x, int64_t dy, int64_t dw);
  // y = x op b, or op(x) where b is kNone; in f32.
  void pointwise(const PointwiseForm& form, int64_t x, int64_t b, int64_t y);

  // The first of the heuristics' engines that the filter lets pass and that can be built. Nothing
  // when there is none.
  std::optional<Plan> plan(const DeviceProperties& device, const EngineFilter& filter = {}) const;

 private:
  int64_t add_tensor(Descriptor d);
  int64_t add_image(const Dims& dims, cudnnDataType_t type, int64_t pitch, bool is_virtual);
  const Descriptor& at(int64_t id) const { return tensors_.at(static_cast<size_t>(id)); }
  Descriptor convolution(const ConvGeometry& g) const;
  // The names that cuDNN has for the parts of one kind of convolution.
  struct ConvAttributes {
    cudnnBackendDescriptorType_t type;
    cudnnBackendAttributeName_t convolution;
    std::array<cudnnBackendAttributeName_t, 3> tensors;
    cudnnBackendAttributeName_t alpha, beta;
  };
  void convolution_operation(const ConvGeometry& g, const ConvAttributes& names,
                             const std::array<int64_t, 3>& tensors);

  std::vector<Descriptor> tensors_, parts_, operations_;
};

}  // namespace sextant::kernels::cudnn
