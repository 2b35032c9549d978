// SPDX-License-Identifier: Apache-2.0
// Casts between f32 and 16-bit types: four elements an item, where the pointers allow.
#include "kernels/cast.h"
#include "kernels/cuda/conv/mma.cuh"
#include "kernels/cuda/device/each.cuh"

namespace sextant::kernels::cuda {
namespace {

template <class To, class From>
__device__ __forceinline__ To convert(From v) {
  return from_float<To>(as_float(v));
}
template <>
__device__ __forceinline__ float convert<float, double>(double v) {
  return static_cast<float>(v);
}

template <class From, class To, int kWidth>
struct CastOp {
  const From* from;
  To* to;
  __device__ __forceinline__ void operator()(uint32_t i) const {
    const int64_t at = static_cast<int64_t>(i) * kWidth;
    const auto in = *reinterpret_cast<const Stored<From, kWidth>*>(from + at);
    Stored<To, kWidth> out;
#pragma unroll
    for (int k = 0; k < kWidth; ++k) out.v[k] = convert<To>(in.v[k]);
    *reinterpret_cast<Stored<To, kWidth>*>(to + at) = out;
  }
};

template <class From, class To>
void run(const Cast& p, Stream stream) {
  constexpr int kWidth = 4;
  const auto* from = static_cast<const From*>(p.from);
  auto* to = static_cast<To*>(p.to);
  const bool packed = reinterpret_cast<uintptr_t>(from) % sizeof(Stored<From, kWidth>) == 0 &&
                      reinterpret_cast<uintptr_t>(to) % sizeof(Stored<To, kWidth>) == 0;
  const int64_t whole = packed ? p.n / kWidth * kWidth : 0;
  for_each_item("cast", CastOp<From, To, kWidth>{from, to}, whole / kWidth, stream);
  for_each_item("cast", CastOp<From, To, 1>{from + whole, to + whole}, p.n - whole, stream);
}

}  // namespace

void cast(const Cast& p, void*, Stream stream) {
  const auto is = [&](DType from, DType to) { return p.from_type == from && p.to_type == to; };
  if (is(DType::kF32, DType::kF16)) return run<float, __half>(p, stream);
  if (is(DType::kF32, DType::kBF16)) return run<float, __nv_bfloat16>(p, stream);
  if (is(DType::kF16, DType::kF32)) return run<__half, float>(p, stream);
  if (is(DType::kBF16, DType::kF32)) return run<__nv_bfloat16, float>(p, stream);
  if (is(DType::kF64, DType::kF32)) return run<double, float>(p, stream);
  fail("cast: {} to {}, must be F32 and F16 or BF16, or F64 to F32", name_of(p.from_type),
       name_of(p.to_type));
}

}  // namespace sextant::kernels::cuda
