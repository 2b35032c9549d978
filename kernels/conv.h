// SPDX-License-Identifier: Apache-2.0
// 2-D convolution: forward, data gradient, weight gradient. Three kernels, three names.
//
// Activations NHWC, weights [oc, kh, kw, ic / groups]. Square stride and symmetric padding.
// Cost: 2 * n * oh * ow * oc * kh * kw * ic / groups FLOPs each.
//
// x, w, y, their gradients dx and dy, and residual are of type `dtype`; bias, dw and db are f32.
// CPU: f32 only; weights are packed in each call (ConvF32 below packs them once). The order of sums
// depends on the shape alone, so no result depends on the number of threads. CUDA: F32, F16, BF16;
// sums are f32. Our own implicit matrix products (kernels/cuda/conv/tile.cuh), and for depthwise
// convolutions kernels without one (depthwise.cuh); no other number of groups than 1; any number of channels, fastest with multiples of 8 and tensors aligned to 16 bytes. No atomics:
// results repeat bit for bit. Throws Error for groups, another dtype, a shape without output.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/dtype.h"
#include "core/enum_names.h"
#include "kernels/epilogue.h"

namespace sextant::kernels {

struct ConvShape {
  int64_t n = 1, h = 1, w = 1, ic = 1;
  int64_t oc = 1, kh = 1, kw = 1;
  int64_t stride = 1, pad = 0, groups = 1;

  int64_t oh() const { return (h + 2 * pad - kh) / stride + 1; }
  int64_t ow() const { return (w + 2 * pad - kw) / stride + 1; }
  int64_t x_numel() const { return n * h * w * ic; }
  int64_t y_numel() const { return n * oh() * ow() * oc; }
  int64_t w_numel() const { return oc * kh * kw * (ic / groups); }
  double flops() const {
    return 2.0 * static_cast<double>(y_numel()) * static_cast<double>(kh * kw * (ic / groups));
  }
  auto operator<=>(const ConvShape&) const = default;
};
// One channel in and out of each group.
inline bool is_depthwise(const ConvShape& s) { return s.groups == s.ic && s.groups == s.oc; }

// How CUDA multiplies f32: 3xTF32 on tensor cores (each factor is the sum of two tf32, with an
// error of about 2^-22 of a product), or by fused multiply-adds.
enum class ConvPrecision { k3xTF32, kFma };

// y = the epilogue of conv(x, w) + bias (kernels/epilogue.h)
struct ConvForward {
  ConvShape shape;
  const void* x = nullptr;
  const void* w = nullptr;
  const float* bias = nullptr;  // [oc] or null
  void* y = nullptr;            // overwritten, unless accumulate
  bool accumulate = false;      // y += conv(x, w); with nothing else
  Epilogue epilogue{};
  const void* residual = nullptr;  // like y, may be y; or null
  DType dtype = DType::kF32;
  ConvPrecision precision = ConvPrecision::k3xTF32;
  // Elements from one pixel to the next; 0: the number of channels.
  int64_t x_pitch = 0, y_pitch = 0, residual_pitch = 0;
  const float* gain = nullptr;  // [oc], behind the activation (kernels/epilogue.h); or null
};

// dx = (or +=, with accumulate) the gradient with respect to x
struct ConvBackwardData {
  ConvShape shape;
  const void* dy = nullptr;
  const void* w = nullptr;
  void* dx = nullptr;
  bool accumulate = false;
  DType dtype = DType::kF32;
  ConvPrecision precision = ConvPrecision::k3xTF32;
  const float* bias = nullptr;  // [ic], added to dx: for transposed convolutions
};

// dw = the gradient with respect to w; db likewise unless null. Both overwritten.
struct ConvBackwardWeight {
  ConvShape shape;
  const void* x = nullptr;
  const void* dy = nullptr;
  float* dw = nullptr;
  float* db = nullptr;
  DType dtype = DType::kF32;
  ConvPrecision precision = ConvPrecision::k3xTF32;
};

namespace cpu {
// The algorithm of a convolution: direct, or Winograd F(2x2,3x3) or F(4x4,3x3) for 3x3 kernels of
// stride 1, which round differently: by up to 5e-7 and 3e-6 of the largest result. kAuto: the
// fastest for the shape, but direct inside ExactSums or with SEXTANT_EXACT=1 in the environment.
enum class ConvAlgorithm { kAuto, kDirect, kWinograd2, kWinograd4 };
constexpr auto enum_names(ConvAlgorithm) {
  return make_enum_names<ConvAlgorithm>("algorithm", {{ConvAlgorithm::kAuto, "auto"},
                                                      {ConvAlgorithm::kDirect, "direct"},
                                                      {ConvAlgorithm::kWinograd2, "winograd 2x2"},
                                                      {ConvAlgorithm::kWinograd4, "winograd 4x4"}});
}

// Forces direct sums on its thread while it lives: for the integers of quantization-aware training,
// and for tests.
class ExactSums {
 public:
  ExactSums();
  ~ExactSums();
  ExactSums(const ExactSums&) = delete;
  ExactSums& operator=(const ExactSums&) = delete;

 private:
  bool before_;
};

class F32Conv;
struct WeightView;
// A convolution whose weights are packed once, for the instruction set in use (kernels/cpu/isa.h).
// A result does not depend on the number of threads or the batch.
class ConvF32 {
 public:
  // w: [oc,kh,kw,ic / groups]. Throws Error for an algorithm that does not support the shape.
  ConvF32(const ConvShape& shape, const float* w, ConvAlgorithm algorithm = ConvAlgorithm::kAuto);
  // Weights in packed order (kernels/cpu/conv/f32.h).
  ConvF32(const ConvShape& shape, const WeightView& w,
          ConvAlgorithm algorithm = ConvAlgorithm::kAuto);
  ConvF32(ConvF32&&) noexcept;
  ConvF32& operator=(ConvF32&&) noexcept;
  ~ConvF32();
  // p.shape and p.w must be those given to the constructor. Thread-safe.
  void operator()(const ConvForward& p) const;
  int64_t weight_bytes() const;
  ConvAlgorithm algorithm() const { return algorithm_; }

 private:
  ConvShape shape_;
  ConvAlgorithm algorithm_;
  std::vector<std::unique_ptr<F32Conv>> groups_;
};

}  // namespace cpu

// Transposed convolution whose kernel equals its stride k (no padding): every input pixel produces
// its own k x k patch. Input [n,h,w,ic], weight [oc,k,k,ic], output [n,h*k,w*k,oc].
struct ConvTransposeShape {
  int64_t n = 1, h = 1, w = 1, ic = 1, oc = 1, k = 2;
  int64_t y_numel() const { return n * h * k * w * k * oc; }
};

// Types as for ConvForward. On CUDA it runs as a convolution's matrix product.
struct ConvTransposeForward {
  ConvTransposeShape shape;
  const void* x = nullptr;
  const void* w = nullptr;
  const float* bias = nullptr;  // [oc] or null
  void* y = nullptr;
  DType dtype = DType::kF32;
  ConvPrecision precision = ConvPrecision::k3xTF32;
};

struct ConvTransposeBackward {
  ConvTransposeShape shape;
  const void* x = nullptr;
  const void* w = nullptr;
  const void* dy = nullptr;
  void* dx = nullptr;  // these three: overwritten; null if not needed
  float* dw = nullptr;
  float* db = nullptr;
  DType dtype = DType::kF32;
  ConvPrecision precision = ConvPrecision::k3xTF32;
};

namespace cuda {
int64_t workspace_bytes(const ConvBackwardWeight& p);
int64_t workspace_bytes(const ConvTransposeForward& p);
int64_t workspace_bytes(const ConvTransposeBackward& p);
}  // namespace cuda

}  // namespace sextant::kernels
