// SPDX-License-Identifier: Apache-2.0
// Several neighbouring values as one load or store (16 bytes: the widest a thread can do), and the
// small arithmetic that goes with them.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "kernels/cuda/device/half.cuh"

namespace sextant::kernels::cuda {

inline constexpr int kPackBytes = 16;
template <class T>
inline constexpr int kPackOf = kPackBytes / static_cast<int>(sizeof(T));
inline constexpr int kPackWidth = kPackOf<float>;
inline constexpr int kHostWarp = 32;  // warpSize, which the host does not know

// Values in memory, aligned to their size as far as a load reaches.
template <class T, int kWidth>
struct alignas(kWidth < kPackOf<T> ? kWidth * sizeof(T) : kPackBytes) Stored {
  T v[kWidth];
};

// Values in registers.
template <int kWidth>
struct Pack {
  float v[kWidth];
};

// `p` has to be aligned to Stored<T, kWidth>.
template <int kWidth, class T>
__device__ __forceinline__ Pack<kWidth> load(const T* p) {
  const auto in = *reinterpret_cast<const Stored<T, kWidth>*>(p);
  Pack<kWidth> out;
#pragma unroll
  for (int v = 0; v < kWidth; ++v) out.v[v] = as_float(in.v[v]);
  return out;
}
template <int kWidth, class T>
__device__ __forceinline__ void store(T* p, const Pack<kWidth>& pack) {
  Stored<T, kWidth> out;
#pragma unroll
  for (int v = 0; v < kWidth; ++v) out.v[v] = from_float<T>(pack.v[v]);
  *reinterpret_cast<Stored<T, kWidth>*>(p) = out;
}

inline bool aligned_to_pack(std::initializer_list<const void*> pointers) {
  for (const void* p : pointers)
    if (reinterpret_cast<uintptr_t>(p) % kPackBytes != 0) return false;
  return true;
}

// Division by a number known at launch: with 32 bits a multiplication and a shift, for dividends
// below 2^31 (Granlund and Montgomery 1994, the form with a 32-bit multiplier); else plain
// division.
template <class Index>
struct Divider;
template <>
struct Divider<uint32_t> {
  uint32_t divisor;
  uint32_t multiplier;
  uint32_t shift;
  explicit Divider(int64_t d) : divisor(static_cast<uint32_t>(d)), shift(0) {
    while ((uint64_t{1} << shift) < divisor) ++shift;
    multiplier = static_cast<uint32_t>(
        ((uint64_t{1} << 32) * ((uint64_t{1} << shift) - divisor)) / divisor + 1);
  }
  __device__ __forceinline__ uint32_t quotient(uint32_t n) const {
    return (__umulhi(n, multiplier) + n) >> shift;
  }
  __device__ __forceinline__ uint32_t remainder(uint32_t n) const {
    return n - quotient(n) * divisor;
  }
};
template <>
struct Divider<int64_t> {
  int64_t divisor;
  explicit Divider(int64_t d) : divisor(d) {}
  __device__ __forceinline__ int64_t quotient(int64_t n) const { return n / divisor; }
  __device__ __forceinline__ int64_t remainder(int64_t n) const { return n % divisor; }
};

}  // namespace sextant::kernels::cuda
