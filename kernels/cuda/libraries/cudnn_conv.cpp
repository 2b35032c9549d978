// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/libraries/cudnn_conv.h"

namespace sextant::kernels::cudnn {
namespace {

// Tensor ids of every graph of this file: run() binds by them, whichever of them a graph has.
enum Id : int64_t { kX, kW, kY, kBias, kFactor, kResidual, kResidualScale, kActivationScale };

cudnnDataType_t type_of(DType t) {
  switch (t) {
    case DType::kF32:
      return CUDNN_DATA_FLOAT;
    case DType::kF16:
      return CUDNN_DATA_HALF;
    case DType::kBF16:
      return CUDNN_DATA_BFLOAT16;
    case DType::kI8:
      return CUDNN_DATA_INT8;
    case DType::kU8:
      return CUDNN_DATA_UINT8;
    default:
      fail("cuDNN: no convolution of type {}", name_of(t));
  }
}

EngineFilter filter_for(DType t) {
  EngineFilter f;
  f.without.insert({CUDNN_NUMERICAL_NOTE_WINOGRAD, CUDNN_NUMERICAL_NOTE_FFT,
                    CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION,
                    CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS});
  if (t == DType::kF32) f.without.insert(CUDNN_NUMERICAL_NOTE_TENSOR_CORE);
  return f;
}

OperationGraph::Dims x_dims(const ConvShape& s) { return {s.n, s.ic, s.h, s.w}; }
OperationGraph::Dims w_dims(const ConvShape& s) { return {s.oc, s.ic / s.groups, s.kh, s.kw}; }
OperationGraph::Dims y_dims(const ConvShape& s) { return {s.n, s.oc, s.oh(), s.ow()}; }

// The activation as a pointwise form; nothing for those that cuDNN does not have.
std::optional<PointwiseForm> form_of(Activation a) {
  switch (a) {
    case Activation::kReLU:
      return PointwiseForm{CUDNN_POINTWISE_RELU_FWD};
    case Activation::kLeakyReLU:
      return PointwiseForm{CUDNN_POINTWISE_RELU_FWD, kLeakySlope};
    case Activation::kSiLU:
      return PointwiseForm{CUDNN_POINTWISE_SWISH_FWD};
    case Activation::kSigmoid:
      return PointwiseForm{CUDNN_POINTWISE_SIGMOID_FWD};
    default:
      return std::nullopt;
  }
}

// A forward convolution: the tensors under their ids, and what follows it, one operation after the
// other; the last one writes y.
template <class P>
class Chain {
 public:
  Chain(const P& p, cudnnDataType_t x, cudnnDataType_t w, cudnnDataType_t y) : p_(p) {
    graph.tensor(x_dims(p.shape), x, p.x_pitch);
    graph.tensor(w_dims(p.shape), w);
    graph.tensor(y_dims(p.shape), y, p.y_pitch);
    const OperationGraph::Dims per_channel = {1, p.shape.oc, 1, 1};
    graph.tensor(per_channel, CUDNN_DATA_FLOAT);
    graph.tensor(per_channel, CUDNN_DATA_FLOAT);
    graph.tensor(y_dims(p.shape), y, p.residual_pitch);
    graph.scalar();
    graph.scalar();
    if (p.residual && p.epilogue.residual_scale != 1.0f) {
      residual_ = graph.virtual_tensor(y_dims(p.shape), CUDNN_DATA_FLOAT);
      graph.pointwise({CUDNN_POINTWISE_MUL}, kResidual, kResidualScale, residual_);
    }
  }

  // What follows the convolution, in order.
  void add(cudnnPointwiseMode_t mode, int64_t with) { parts_.push_back({{mode}, with}); }
  // kernels/epilogue.h. False for an activation that cuDNN does not have.
  bool add_epilogue() {
    const Epilogue& e = p_.epilogue;
    if (p_.residual && e.residual_before_activation) add(CUDNN_POINTWISE_ADD, residual_);
    if (e.activation != Activation::kIdentity) {
      const std::optional<PointwiseForm> form = form_of(e.activation);
      if (!form) return false;
      parts_.push_back({*form, OperationGraph::kNone});
    }
    if (e.activation_scale != 1.0f) add(CUDNN_POINTWISE_MUL, kActivationScale);
    if (p_.residual && !e.residual_before_activation) add(CUDNN_POINTWISE_ADD, residual_);
    return true;
  }

  std::optional<Plan> plan(ConvGeometry g, cudnnDataType_t sums, const DeviceProperties& device,
                           const EngineFilter& filter) {
    g.stride = p_.shape.stride;
    g.pad = p_.shape.pad;
    int64_t last =
        parts_.empty() ? static_cast<int64_t>(kY) : graph.virtual_tensor(y_dims(p_.shape), sums);
    graph.convolution_forward(g, kX, kW, last);
    for (size_t i = 0; i < parts_.size(); ++i) {
      const int64_t y = i + 1 == parts_.size()
                            ? static_cast<int64_t>(kY)
                            : graph.virtual_tensor(y_dims(p_.shape), CUDNN_DATA_FLOAT);
      graph.pointwise(parts_[i].form, last, parts_[i].with, y);
      last = y;
    }
    return graph.plan(device, filter);
  }

  OperationGraph graph;

 private:
  struct Part {
    PointwiseForm form;
    int64_t with;
  };
  const P& p_;
  std::vector<Part> parts_;
  int64_t residual_ = kResidual;
};

}  // namespace

std::optional<Plan> plan_conv_forward(const ConvForward& p, const DeviceProperties& device) {
  const cudnnDataType_t type = type_of(p.dtype);
  Chain chain(p, type, type, type);
  if (p.bias) chain.add(CUDNN_POINTWISE_ADD, kBias);
  if (!chain.add_epilogue()) return std::nullopt;
  ConvGeometry g;
  g.beta = p.accumulate ? 1.0f : 0.0f;
  return chain.plan(g, CUDNN_DATA_FLOAT, device, filter_for(p.dtype));
}

std::optional<Plan> plan_conv_backward_data(const ConvBackwardData& p,
                                            const DeviceProperties& device) {
  if (p.bias) return std::nullopt;
  const cudnnDataType_t type = type_of(p.dtype);
  OperationGraph g;
  const int64_t dx = g.tensor(x_dims(p.shape), type), w = g.tensor(w_dims(p.shape), type),
                dy = g.tensor(y_dims(p.shape), type);
  g.convolution_backward_data(
      {p.shape.stride, p.shape.pad, CUDNN_DATA_FLOAT, p.accumulate ? 1.0f : 0.0f}, dy, w, dx);
  return g.plan(device, filter_for(p.dtype));
}

std::optional<Plan> plan_conv_backward_weight(const ConvBackwardWeight& p,
                                              const DeviceProperties& device) {
  if (p.db) return std::nullopt;
  const cudnnDataType_t type = type_of(p.dtype);
  OperationGraph g;
  const int64_t x = g.tensor(x_dims(p.shape), type),
                dw = g.tensor(w_dims(p.shape), CUDNN_DATA_FLOAT),
                dy = g.tensor(y_dims(p.shape), type);
  if (p.dtype == DType::kF32) {
    g.convolution_backward_filter({p.shape.stride, p.shape.pad}, x, dy, dw);
  } else {  // f32 sums of 16-bit products: only as a fusion has cuDNN that
    const int64_t sums = g.virtual_tensor(w_dims(p.shape), CUDNN_DATA_FLOAT);
    g.convolution_backward_filter({p.shape.stride, p.shape.pad}, x, dy, sums);
    g.pointwise({CUDNN_POINTWISE_IDENTITY}, sums, OperationGraph::kNone, dw);
  }
  return g.plan(device, filter_for(p.dtype));
}

std::optional<Plan> plan_conv_int8_forward(const ConvInt8Forward& p,
                                           const DeviceProperties& device) {
  Chain chain(p, type_of(p.x_type), CUDNN_DATA_INT8, type_of(p.y_type));
  if (p.bias) chain.add(CUDNN_POINTWISE_ADD, kBias);
  chain.add(CUDNN_POINTWISE_MUL, kFactor);
  if (!chain.add_epilogue()) return std::nullopt;
  ConvGeometry g;
  g.compute = CUDNN_DATA_INT32;
  return chain.plan(g, CUDNN_DATA_INT32, device, filter_for(DType::kI8));
}

namespace {
void* writable(const void* p) { return const_cast<void*>(p); }

// What both forward convolutions bind.
template <class P>
Plan::Bindings forward_bindings(const P& p) {
  const Epilogue& e = p.epilogue;
  Plan::Bindings b = {{kX, writable(p.x)}, {kW, writable(p.w)}, {kY, p.y}};
  if (p.bias) b.emplace_back(kBias, writable(p.bias));
  if (p.residual) b.emplace_back(kResidual, writable(p.residual));
  if (p.residual && e.residual_scale != 1.0f)
    b.emplace_back(kResidualScale, writable(&e.residual_scale));
  if (e.activation_scale != 1.0f) b.emplace_back(kActivationScale, writable(&e.activation_scale));
  return b;
}
}  // namespace

void run(const Plan& plan, const ConvForward& p, cudnnHandle_t handle, void* workspace) {
  plan.run(handle, forward_bindings(p), workspace);
}

void run(const Plan& plan, const ConvBackwardData& p, cudnnHandle_t handle, void* workspace) {
  plan.run(handle, {{kX, p.dx}, {kW, writable(p.w)}, {kY, writable(p.dy)}}, workspace);
}

void run(const Plan& plan, const ConvBackwardWeight& p, cudnnHandle_t handle, void* workspace) {
  plan.run(handle, {{kX, writable(p.x)}, {kW, p.dw}, {kY, writable(p.dy)}}, workspace);
}

void run(const Plan& plan, const ConvInt8Forward& p, cudnnHandle_t handle, void* workspace) {
  Plan::Bindings b = forward_bindings(p);
  b.emplace_back(kFactor, writable(p.factor));
  plan.run(handle, b, workspace);
}

}  // namespace sextant::kernels::cudnn
