// SPDX-License-Identifier: Apache-2.0
// A transposed convolution is the data gradient of the convolution that goes the other way, from
// the large tensor to the small one; its data gradient is that convolution, and its weight gradient
// that one's, with the roles of the tensors exchanged. So it runs on the matrix products of the
// convolutions. Their weights have the two channel dimensions exchanged: [ic, k, k, oc].
#include "kernels/cuda/conv/bias.cuh"
#include "kernels/cuda/device/each.cuh"
#include "kernels/cuda/kernels.h"

namespace sextant::kernels::cuda {
namespace {

// From the large tensor (oc channels) to the small one (ic).
ConvShape opposite(const ConvTransposeShape& s) {
  return {s.n, s.h * s.k, s.w * s.k, s.oc, s.ic, s.k, s.k, s.k, 0, 1};
}

void check_shape(const char* name, const ConvTransposeShape& s) {
  check(s.n >= 1 && s.h >= 1 && s.w >= 1 && s.ic >= 1 && s.oc >= 1 && s.k >= 1,
        "{}: input [{},{},{},{}], weight [{},{},{},{}]: no output", name, s.n, s.h, s.w, s.ic, s.oc,
        s.k, s.k, s.ic);
}

// to[c][t][b] = from[b][t][c], both channel dimensions exchanged.
template <class T>
struct ExchangeOp {
  const T* from;
  T* to;
  Divider<uint32_t> row, inner;  // t * b; b: of `to`
  uint32_t outer;                // c
  __device__ __forceinline__ void operator()(uint32_t i) const {
    const uint32_t c = row.quotient(i);
    const uint32_t rest = i - c * row.divisor;
    const uint32_t t = inner.quotient(rest);
    const uint32_t b = rest - t * inner.divisor;
    to[i] = from[(static_cast<int64_t>(b) * (row.divisor / inner.divisor) + t) * outer + c];
  }
};

// [rows, taps, columns] -> [columns, taps, rows]
template <class T>
void exchange(const T* from, T* to, int64_t rows, int64_t taps, int64_t columns, Stream stream) {
  for_each_item("conv_transpose",
                ExchangeOp<T>{from, to, Divider<uint32_t>(taps * rows), Divider<uint32_t>(rows),
                              static_cast<uint32_t>(columns)},
                rows * taps * columns, stream);
}

int64_t aligned_bytes(int64_t elements, int64_t size) { return (elements * size + 15) / 16 * 16; }

// The regions of a workspace, one after the other.
struct Regions {
  int64_t weights, gradient, convolution;
};
Regions backward_regions(const ConvTransposeBackward& p) {
  const ConvTransposeShape& s = p.shape;
  const ConvShape c = opposite(s);
  return {aligned_bytes(c.w_numel(), size_of(p.dtype)),
          aligned_bytes(c.w_numel(), size_of(DType::kF32)),
          std::max(workspace_bytes(ConvBackwardWeight{.shape = c}),
                   bias_gradient_workspace(s.n * s.h * s.k * s.w * s.k, s.oc))};
}

}  // namespace

int64_t workspace_bytes(const ConvTransposeForward& p) {
  return aligned_bytes(opposite(p.shape).w_numel(), size_of(p.dtype));
}

void conv_transpose_forward(const ConvTransposeForward& p, void* workspace, Stream stream) {
  const ConvTransposeShape& s = p.shape;
  check_shape("conv_transpose_forward", s);
  dispatch_float("conv_transpose_forward", p.dtype, [&](auto type) {
    using T = decltype(type);
    exchange(static_cast<const T*>(p.w), static_cast<T*>(workspace), s.oc, s.k * s.k, s.ic, stream);
  });
  ConvBackwardData data{opposite(s), p.x, workspace, p.y, false, p.dtype, p.precision};
  data.bias = p.bias;
  conv_backward_data(data, nullptr, stream);
}

int64_t workspace_bytes(const ConvTransposeBackward& p) {
  check_shape("conv_transpose_backward", p.shape);
  const Regions r = backward_regions(p);
  return r.weights + r.gradient + r.convolution;
}

void conv_transpose_backward(const ConvTransposeBackward& p, void* workspace, Stream stream) {
  const ConvTransposeShape& s = p.shape;
  check_shape("conv_transpose_backward", s);
  const ConvShape c = opposite(s);
  const Regions r = backward_regions(p);
  auto* weights = static_cast<unsigned char*>(workspace);
  auto* gradient = reinterpret_cast<float*>(weights + r.weights);
  void* rest = weights + r.weights + r.gradient;
  dispatch_float("conv_transpose_backward", p.dtype, [&](auto type) {
    using T = decltype(type);
    if (p.dx) {
      exchange(static_cast<const T*>(p.w), reinterpret_cast<T*>(weights), s.oc, s.k * s.k, s.ic,
               stream);
      ConvForward forward{c, p.dy, weights, nullptr, p.dx};
      forward.dtype = p.dtype;
      forward.precision = p.precision;
      conv_forward(forward, nullptr, stream);
    }
    if (p.dw) {
      conv_backward_weight({c, p.dy, p.x, gradient, nullptr, p.dtype, p.precision}, rest, stream);
      exchange(gradient, p.dw, s.ic, s.k * s.k, s.oc, stream);
    }
    if (p.db)
      bias_gradient(static_cast<const T*>(p.dy), c.n * c.h * c.w, s.oc, p.db,
                    static_cast<float*>(rest), stream);
  });
}

}  // namespace sextant::kernels::cuda
