// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/libraries/cudnn_graph.h"

#include <algorithm>

namespace sextant::kernels::cudnn {

void fail_with(cudnnStatus_t status, const std::string& what) {
  std::array<char, 512> message{};
  cudnnGetLastErrorString(message.data(), message.size());
  std::string last(message.data());
  std::ranges::replace(last, '\n', ' ');
  fail("cuDNN: {}: {}{}{}{}", what, cudnnGetErrorString(status), last.empty() ? "" : " (", last,
       last.empty() ? "" : ")");
}

Descriptor::Descriptor(cudnnBackendDescriptorType_t type) {
  SEXTANT_CUDNN_CHECK(cudnnBackendCreateDescriptor(type, &handle_), "a descriptor");
}
Descriptor::~Descriptor() {
  if (handle_) static_cast<void>(cudnnBackendDestroyDescriptor(handle_));
}

void Descriptor::set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                     int64_t count, const void* values) {
  SEXTANT_CUDNN_CHECK(cudnnBackendSetAttribute(handle_, name, type, count, values),
                      fmt::format("attribute {}", static_cast<int>(name)));
}
void Descriptor::set(cudnnBackendAttributeName_t name, int64_t value) {
  set(name, CUDNN_TYPE_INT64, 1, &value);
}
void Descriptor::set(cudnnBackendAttributeName_t name, const std::vector<int64_t>& values) {
  set(name, CUDNN_TYPE_INT64, static_cast<int64_t>(values.size()), values.data());
}
void Descriptor::set(cudnnBackendAttributeName_t name, float value) {
  set(name, CUDNN_TYPE_FLOAT, 1, &value);
}
void Descriptor::set(cudnnBackendAttributeName_t name, bool value) {
  set(name, CUDNN_TYPE_BOOLEAN, 1, &value);
}
void Descriptor::set(cudnnBackendAttributeName_t name, cudnnDataType_t value) {
  set(name, CUDNN_TYPE_DATA_TYPE, 1, &value);
}
void Descriptor::set(cudnnBackendAttributeName_t name, const Descriptor& value) {
  const cudnnBackendDescriptor_t handle = value.get();
  set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &handle);
}
void Descriptor::set_text(cudnnBackendAttributeName_t name, const std::string& text) {
  set(name, CUDNN_TYPE_CHAR, static_cast<int64_t>(text.size()), text.data());
}
void Descriptor::finalize() { SEXTANT_CUDNN_CHECK(cudnnBackendFinalize(handle_), "a descriptor"); }

int64_t Descriptor::integer(cudnnBackendAttributeName_t name) const {
  int64_t value = 0, count = 0;
  SEXTANT_CUDNN_CHECK(cudnnBackendGetAttribute(handle_, name, CUDNN_TYPE_INT64, 1, &count, &value),
                      fmt::format("reading attribute {}", static_cast<int>(name)));
  return value;
}
std::string Descriptor::text(cudnnBackendAttributeName_t name) const {
  const std::string what = fmt::format("reading attribute {}", static_cast<int>(name));
  int64_t size = 0;
  SEXTANT_CUDNN_CHECK(cudnnBackendGetAttribute(handle_, name, CUDNN_TYPE_CHAR, 0, &size, nullptr),
                      what);
  std::string text(static_cast<size_t>(size), '\0');
  SEXTANT_CUDNN_CHECK(
      cudnnBackendGetAttribute(handle_, name, CUDNN_TYPE_CHAR, size, &size, text.data()), what);
  text.resize(std::min(text.find('\0'), text.size()));
  return text;
}

DeviceProperties DeviceProperties::of_device(int device) {
  Descriptor d(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
  const int32_t id = device;
  d.set(CUDNN_ATTR_DEVICEPROP_DEVICE_ID, CUDNN_TYPE_INT32, 1, &id);
  d.finalize();
  return DeviceProperties(std::move(d));
}
DeviceProperties DeviceProperties::from_json(const std::string& json) {
  Descriptor d(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
  d.set_text(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, json);
  d.finalize();
  return DeviceProperties(std::move(d));
}
std::string DeviceProperties::json() const {
  return descriptor_.text(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION);
}

Plan::Plan(Descriptor d)
    : descriptor_(std::move(d)),
      workspace_(descriptor_.integer(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE)) {}

Plan Plan::from_json(const std::string& json, const DeviceProperties& device) {
  Descriptor d(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
  d.set(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, device.descriptor());
  d.set_text(CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, json);
  d.finalize();
  return Plan(std::move(d));
}
std::string Plan::json() const {
  return descriptor_.text(CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION);
}

void Plan::run(cudnnHandle_t handle, const Bindings& bindings, void* workspace) const {
  std::vector<int64_t> ids;
  std::vector<void*> pointers;
  for (const auto& [id, p] : bindings) {
    ids.push_back(id);
    pointers.push_back(p);
  }
  Descriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
  pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, ids);
  pack.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR,
           static_cast<int64_t>(pointers.size()), pointers.data());
  pack.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
  pack.finalize();
  SEXTANT_CUDNN_CHECK(cudnnBackendExecute(handle, descriptor_.get(), pack.get()),
                      "running a convolution");
}

int64_t OperationGraph::add_tensor(Descriptor d) {
  const auto id = static_cast<int64_t>(tensors_.size());
  d.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, id);
  d.finalize();
  tensors_.push_back(std::move(d));
  return id;
}

int64_t OperationGraph::tensor(const Dims& dims, cudnnDataType_t type, int64_t pitch) {
  return add_image(dims, type, pitch == 0 ? dims[1] : pitch, false);
}
int64_t OperationGraph::virtual_tensor(const Dims& dims, cudnnDataType_t type) {
  return add_image(dims, type, dims[1], true);
}

int64_t OperationGraph::add_image(const Dims& dims, cudnnDataType_t type, int64_t pitch,
                                  bool is_virtual) {
  const auto [n, c, h, w] = dims;
  Descriptor d(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  d.set(CUDNN_ATTR_TENSOR_DATA_TYPE, type);
  d.set(CUDNN_ATTR_TENSOR_DIMENSIONS, std::vector<int64_t>{n, c, h, w});
  d.set(CUDNN_ATTR_TENSOR_STRIDES, std::vector<int64_t>{h * w * pitch, 1, w * pitch, pitch});
  d.set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, int64_t{16});
  d.set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, is_virtual);
  return add_tensor(std::move(d));
}

int64_t OperationGraph::scalar() {
  Descriptor d(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  d.set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_DATA_FLOAT);
  d.set(CUDNN_ATTR_TENSOR_DIMENSIONS, std::vector<int64_t>{1, 1, 1, 1});
  d.set(CUDNN_ATTR_TENSOR_STRIDES, std::vector<int64_t>{1, 1, 1, 1});
  d.set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, int64_t{4});
  d.set(CUDNN_ATTR_TENSOR_IS_BY_VALUE, true);
  return add_tensor(std::move(d));
}

Descriptor OperationGraph::convolution(const ConvGeometry& g) const {
  Descriptor d(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
  const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
  d.set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, g.compute);
  d.set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
  d.set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, int64_t{2});
  d.set(CUDNN_ATTR_CONVOLUTION_DILATIONS, std::vector<int64_t>{1, 1});
  d.set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, std::vector<int64_t>{g.stride, g.stride});
  d.set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, std::vector<int64_t>{g.pad, g.pad});
  d.set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, std::vector<int64_t>{g.pad, g.pad});
  d.finalize();
  return d;
}

void OperationGraph::convolution_operation(const ConvGeometry& g, const ConvAttributes& names,
                                           const std::array<int64_t, 3>& tensors) {
  parts_.push_back(convolution(g));
  Descriptor d(names.type);
  d.set(names.convolution, parts_.back());
  for (size_t i = 0; i < tensors.size(); ++i) d.set(names.tensors[i], at(tensors[i]));
  d.set(names.alpha, 1.0f);
  d.set(names.beta, g.beta);
  d.finalize();
  operations_.push_back(std::move(d));
}

void OperationGraph::convolution_forward(const ConvGeometry& g, int64_t x, int64_t w, int64_t y) {
  convolution_operation(
      g,
      {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
       CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
       {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
        CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y},
       CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
       CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
      {x, w, y});
}

void OperationGraph::convolution_backward_data(const ConvGeometry& g, int64_t dy, int64_t w,
                                               int64_t dx) {
  convolution_operation(
      g,
      {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
       {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX},
       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
      {dy, w, dx});
}

void OperationGraph::convolution_backward_filter(const ConvGeometry& g, int64_t x, int64_t dy,
                                                 int64_t dw) {
  convolution_operation(g,
                        {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
                         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
                         {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
                          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
                          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW},
                         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
                         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA},
                        {x, dy, dw});
}

void OperationGraph::pointwise(const PointwiseForm& form, int64_t x, int64_t b, int64_t y) {
  Descriptor p(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  p.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &form.mode);
  p.set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_DATA_FLOAT);
  if (form.mode == CUDNN_POINTWISE_RELU_FWD && form.lower_slope != 0.0f) {
    const double slope = form.lower_slope;
    p.set(CUDNN_ATTR_POINTWISE_RELU_LOWER_CLIP_SLOPE, CUDNN_TYPE_DOUBLE, 1, &slope);
  }
  p.finalize();
  parts_.push_back(std::move(p));
  Descriptor d(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  d.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, parts_.back());
  d.set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, at(x));
  if (b != kNone) d.set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, at(b));
  d.set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, at(y));
  d.finalize();
  operations_.push_back(std::move(d));
}

namespace {

// The descriptors that a list attribute holds, `type` each.
std::vector<Descriptor> list_of(const Descriptor& from, cudnnBackendAttributeName_t name,
                                cudnnBackendDescriptorType_t type) {
  int64_t count = 0;
  SEXTANT_CUDNN_CHECK(
      cudnnBackendGetAttribute(from.get(), name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &count, nullptr),
      "the heuristics' results");
  std::vector<Descriptor> list;
  std::vector<cudnnBackendDescriptor_t> handles;
  for (int64_t i = 0; i < count; ++i) handles.push_back(list.emplace_back(type).get());
  SEXTANT_CUDNN_CHECK(cudnnBackendGetAttribute(from.get(), name, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                               count, &count, handles.data()),
                      "the heuristics' results");
  list.erase(list.begin() + count, list.end());
  return list;
}

bool passes(const Descriptor& config, const EngineFilter& filter) {
  const std::vector<Descriptor> engine =
      list_of(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
  std::array<cudnnBackendNumericalNote_t, CUDNN_NUMERICAL_NOTE_TYPE_COUNT> notes{};
  int64_t count = 0;
  SEXTANT_CUDNN_CHECK(
      cudnnBackendGetAttribute(engine.at(0).get(), CUDNN_ATTR_ENGINE_NUMERICAL_NOTE,
                               CUDNN_TYPE_NUMERICAL_NOTE, static_cast<int64_t>(notes.size()),
                               &count, notes.data()),
      "notes of an engine");
  return std::none_of(notes.begin(), notes.begin() + count,
                      [&](auto note) { return filter.without.contains(note); });
}

// Null where cuDNN cannot build it.
std::optional<Descriptor> build(const Descriptor& config, const DeviceProperties& device) {
  Descriptor d(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
  d.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
  d.set(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, device.descriptor());
  if (cudnnBackendFinalize(d.get()) != CUDNN_STATUS_SUCCESS) return std::nullopt;
  return d;
}

}  // namespace

std::optional<Plan> OperationGraph::plan(const DeviceProperties& device,
                                         const EngineFilter& filter) const {
  std::vector<cudnnBackendDescriptor_t> operations;
  for (const Descriptor& d : operations_) operations.push_back(d.get());
  Descriptor graph(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  graph.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
            static_cast<int64_t>(operations.size()), operations.data());
  if (cudnnBackendFinalize(graph.get()) != CUDNN_STATUS_SUCCESS) return std::nullopt;
  for (const cudnnBackendHeurMode_t mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK}) {
    Descriptor heuristics(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    heuristics.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    heuristics.set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    heuristics.set(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, device.descriptor());
    if (cudnnBackendFinalize(heuristics.get()) != CUDNN_STATUS_SUCCESS) continue;
    for (const Descriptor& config :
         list_of(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR)) {
      if (!passes(config, filter)) continue;
      if (std::optional<Descriptor> built = build(config, device)) return Plan(std::move(*built));
    }
  }
  return std::nullopt;
}

}  // namespace sextant::kernels::cudnn
