// SPDX-License-Identifier: Apache-2.0
// The elementwise family. Bound by memory: each thread moves two packs of 16 bytes per turn, with
// all loads of a turn before its stores, so that enough of them are in flight.
#include "kernels/cuda/device/pack.cuh"
#include "kernels/elementwise.h"

namespace sextant::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// What an operation reads before its first element: nothing.
struct WithoutPreparation {
  __device__ __forceinline__ void prepare() {}
};

template <Activation A>
struct ActForwardOp : WithoutPreparation {
  __device__ __forceinline__ float operator()(float x) const { return activate<A>(x); }
};
template <Activation A>
struct ActBackwardOp : WithoutPreparation {
  __device__ __forceinline__ float operator()(float x, float dy) const {
    return dy * activate_grad<A>(x);
  }
};
struct AddScaledOp {
  float alpha;
  float beta;
  const float* alpha_at;
  const float* beta_at;
  __device__ __forceinline__ void prepare() {
    if (alpha_at != nullptr) alpha *= *alpha_at;
    if (beta_at != nullptr) beta *= *beta_at;
  }
  __device__ __forceinline__ float operator()(float a, float b) const {
    return alpha * a + beta * b;
  }
};

template <class T, int kInputs>
struct Inputs {
  const T* p[kInputs];
};

template <int kInputs, int kWidth, class Op>
struct Turn {
  Pack<kWidth> in[kInputs];

  template <class T>
  __device__ __forceinline__ void read(const Inputs<T, kInputs>& inputs, int64_t i) {
#pragma unroll
    for (int k = 0; k < kInputs; ++k) in[k] = load<kWidth>(inputs.p[k] + i * kWidth);
  }
  template <class T>
  __device__ __forceinline__ void write(const Op& op, T* y, int64_t i) const {
    Pack<kWidth> out;
#pragma unroll
    for (int v = 0; v < kWidth; ++v) {
      if constexpr (kInputs == 1)
        out.v[v] = op(in[0].v[v]);
      else
        out.v[v] = op(in[0].v[v], in[1].v[v]);
    }
    store<kWidth>(y + i * kWidth, out);
  }
};

// y[i] = op(inputs[i]...) for i < n; the n % kWidth last elements one by one.
template <class T, int kInputs, int kWidth, class Op>
__global__ void __launch_bounds__(kThreads)
    map_kernel(Op op, Inputs<T, kInputs> inputs, T* y, int64_t n) {
  op.prepare();
  const int64_t packs = n / kWidth;
  const int64_t threads = static_cast<int64_t>(gridDim.x) * kThreads;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  int64_t i = first;
  for (; i + threads < packs; i += 2 * threads) {
    Turn<kInputs, kWidth, Op> a, b;
    a.read(inputs, i);
    b.read(inputs, i + threads);
    a.write(op, y, i);
    b.write(op, y, i + threads);
  }
  if (i < packs) {
    Turn<kInputs, kWidth, Op> a;
    a.read(inputs, i);
    a.write(op, y, i);
  }
  const int64_t tail = packs * kWidth + first;
  if (tail < n) {
    Turn<kInputs, 1, Op> a;
    a.read(inputs, tail);
    a.write(op, y, tail);
  }
}

template <int kInputs, class Op>
void map(const char* name, DType dtype, const Op& op, const Inputs<void, kInputs>& inputs, void* y,
         int64_t n, Stream stream) {
  dispatch_float(name, dtype, [&](auto type) {
    using T = decltype(type);
    if (n <= 0) return;
    Inputs<T, kInputs> in;
    bool packed = aligned_to_pack({y});
    for (int k = 0; k < kInputs; ++k) {
      in.p[k] = static_cast<const T*>(inputs.p[k]);
      packed = packed && aligned_to_pack({in.p[k]});
    }
    const auto start = [&](const auto& kernel, int width) {
      const unsigned blocks = grid_stride_blocks((n + width - 1) / width, kThreads);
      launch(kernel, blocks, kThreads, 0, stream, op, in, static_cast<T*>(y), n);
    };
    if (packed)
      start(SEXTANT_KERNEL(map_kernel<T, kInputs, kPackOf<T>, Op>), kPackOf<T>);
    else
      start(SEXTANT_KERNEL(map_kernel<T, kInputs, 1, Op>), 1);
  });
}

}  // namespace

void act_forward(const ActForward& p, void*, Stream stream) {
  dispatch_activation(p.activation, [&](auto tag) {
    map<1>("act_forward", p.dtype, ActForwardOp<decltype(tag)::value>{}, {{p.x}}, p.y, p.n, stream);
  });
}

void act_backward(const ActBackward& p, void*, Stream stream) {
  dispatch_activation(p.activation, [&](auto tag) {
    map<2>("act_backward", p.dtype, ActBackwardOp<decltype(tag)::value>{}, {{p.x, p.dy}}, p.dx, p.n,
           stream);
  });
}

void add_scaled(const AddScaled& p, void*, Stream stream) {
  map<2>("add_scaled", p.dtype, AddScaledOp{p.alpha, p.beta, p.alpha_at, p.beta_at}, {{p.a, p.b}},
         p.y, p.n, stream);
}

}  // namespace sextant::kernels::cuda
