#include "kernels/cuda/cudnn_conv.h"

namespace sextant::kernels::cudnn {
namespace {

// Tensor ids of every graph of this file: run() binds by them, whichever of them a graph has.
enum Id : int64_t { kX, kW, kY, kBias, kFactor, kResidual, kScalars };

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

// The three tensors that every graph has, and what is added to a convolution one operation after
// the other; the last operation writes y.
class Chain {
 public:
  Chain(const ConvShape& s, cudnnDataType_t x, cudnnDataType_t w, cudnnDataType_t y) : shape_(s) {
    graph.tensor(x_dims(s), x);
    graph.tensor(w_dims(s), w);
    graph.tensor(y_dims(s), y);
    const OperationGraph::Dims per_channel = {1, s.oc, 1, 1};
    graph.tensor(per_channel, CUDNN_DATA_FLOAT);
    graph.tensor(per_channel, CUDNN_DATA_FLOAT);
    graph.tensor(y_dims(s), y);
  }
  // The convolution's result is `last` unless it is the only operation.
  void start(const ConvGeometry& g, bool only, cudnnDataType_t sums) {
    last_ = only ? static_cast<int64_t>(kY) : graph.tensor(y_dims(shape_), sums, true);
    graph.convolution_forward(g, kX, kW, last_);
  }
  void then(const PointwiseForm& form, int64_t with, bool final) {
    const int64_t y =
        final ? static_cast<int64_t>(kY) : graph.tensor(y_dims(shape_), CUDNN_DATA_FLOAT, true);
    graph.pointwise(form, last_, with, y);
    last_ = y;
  }

  OperationGraph graph;

 private:
  ConvShape shape_;
  int64_t last_ = kY;
};
constexpr int64_t kNone = OperationGraph::kNone;

// The activation as a pointwise form; nothing for those that cuDNN has not.
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

struct Part {
  PointwiseForm form;
  enum With {
    kNothing,
    kBiasVector,
    kFactorVector,
    kResidualTensor,
    kResidualScaled,
    kScalar
  } with;
};

}  // namespace

std::optional<Plan> plan_conv_forward(const ConvForward& p, const DeviceProperties& device) {
  const cudnnDataType_t type = type_of(p.dtype);
  std::vector<Part> parts;
  if (p.bias) parts.push_back({{CUDNN_POINTWISE_ADD}, Part::kBiasVector});
  if (p.act != Activation::kIdentity) {
    const auto form = form_of(p.act);
    if (!form) return std::nullopt;
    parts.push_back({*form, Part::kNothing});
  }
  if (p.residual) parts.push_back({{CUDNN_POINTWISE_ADD}, Part::kResidualTensor});
  Chain chain(p.shape, type, type, type);
  chain.start({p.shape.stride, p.shape.pad, CUDNN_DATA_FLOAT, p.accumulate ? 1.0f : 0.0f},
              parts.empty(), CUDNN_DATA_FLOAT);
  for (size_t i = 0; i < parts.size(); ++i) {
    const int64_t with = parts[i].with == Part::kBiasVector       ? static_cast<int64_t>(kBias)
                         : parts[i].with == Part::kResidualTensor ? static_cast<int64_t>(kResidual)
                                                                  : kNone;
    chain.then(parts[i].form, with, i + 1 == parts.size());
  }
  return chain.graph.plan(device, filter_for(p.dtype));
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
    const int64_t sums = g.tensor(w_dims(p.shape), CUDNN_DATA_FLOAT, true);
    g.convolution_backward_filter({p.shape.stride, p.shape.pad}, x, dy, sums);
    g.pointwise({CUDNN_POINTWISE_IDENTITY}, sums, kNone, dw);
  }
  return g.plan(device, filter_for(p.dtype));
}

std::optional<Plan> plan_conv_int8_forward(const ConvInt8Forward& p,
                                           const DeviceProperties& device) {
  std::vector<Part> parts;
  if (p.bias) parts.push_back({{CUDNN_POINTWISE_ADD}, Part::kBiasVector});
  parts.push_back({{CUDNN_POINTWISE_MUL}, Part::kFactorVector});
  const Part residual = {{CUDNN_POINTWISE_ADD},
                         p.residual_scale == 1.0f ? Part::kResidualTensor : Part::kResidualScaled};
  if (p.residual && p.residual_before_activation) parts.push_back(residual);
  if (p.act != Activation::kIdentity) {
    const auto form = form_of(p.act);
    if (!form) return std::nullopt;
    parts.push_back({*form, Part::kNothing});
  }
  if (p.activation_scale != 1.0f) parts.push_back({{CUDNN_POINTWISE_MUL}, Part::kScalar});
  if (p.residual && !p.residual_before_activation) parts.push_back(residual);

  Chain chain(p.shape, type_of(p.x_type), CUDNN_DATA_INT8, type_of(p.y_type));
  const int64_t residual_scale = chain.graph.scalar(), activation_scale = chain.graph.scalar();
  const int64_t scaled = chain.graph.tensor(y_dims(p.shape), CUDNN_DATA_FLOAT, true);
  if (p.residual && p.residual_scale != 1.0f)
    chain.graph.pointwise({CUDNN_POINTWISE_MUL}, kResidual, residual_scale, scaled);
  chain.start({p.shape.stride, p.shape.pad, CUDNN_DATA_INT32}, false, CUDNN_DATA_INT32);
  for (size_t i = 0; i < parts.size(); ++i) {
    int64_t with = kNone;
    switch (parts[i].with) {
      case Part::kNothing:
        break;
      case Part::kBiasVector:
        with = kBias;
        break;
      case Part::kFactorVector:
        with = kFactor;
        break;
      case Part::kResidualTensor:
        with = kResidual;
        break;
      case Part::kResidualScaled:
        with = scaled;
        break;
      case Part::kScalar:
        with = activation_scale;
        break;
    }
    chain.then(parts[i].form, with, i + 1 == parts.size());
  }
  return chain.graph.plan(device, filter_for(DType::kI8));
}

namespace {
void* writable(const void* p) { return const_cast<void*>(p); }
}  // namespace

void run(const Plan& plan, const ConvForward& p, cudnnHandle_t handle, void* workspace) {
  Plan::Bindings b = {{kX, writable(p.x)}, {kW, writable(p.w)}, {kY, p.y}};
  if (p.bias) b.emplace_back(kBias, writable(p.bias));
  if (p.residual) b.emplace_back(kResidual, writable(p.residual));
  plan.run(handle, b, workspace);
}

void run(const Plan& plan, const ConvBackwardData& p, cudnnHandle_t handle, void* workspace) {
  plan.run(handle, {{kX, p.dx}, {kW, writable(p.w)}, {kY, writable(p.dy)}}, workspace);
}

void run(const Plan& plan, const ConvBackwardWeight& p, cudnnHandle_t handle, void* workspace) {
  plan.run(handle, {{kX, writable(p.x)}, {kW, p.dw}, {kY, writable(p.dy)}}, workspace);
}

void run(const Plan& plan, const ConvInt8Forward& p, cudnnHandle_t handle, void* workspace) {
  Plan::Bindings b = {
      {kX, writable(p.x)}, {kW, writable(p.w)}, {kY, p.y}, {kFactor, writable(p.factor)}};
  if (p.bias) b.emplace_back(kBias, writable(p.bias));
  if (p.residual) b.emplace_back(kResidual, writable(p.residual));
  if (p.residual && p.residual_scale != 1.0f) b.emplace_back(kScalars, writable(&p.residual_scale));
  if (p.activation_scale != 1.0f) b.emplace_back(kScalars + 1, writable(&p.activation_scale));
  plan.run(handle, b, workspace);
}

}  // namespace sextant::kernels::cudnn
