// Several neighbouring floats as one load or store (16 bytes: the widest a thread can do), and the
// small arithmetic that goes with them.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "kernels/cuda/launch.h"

namespace sextant::kernels::cuda {

template <int kWidth>
struct alignas(kWidth * sizeof(float)) Pack {
  float v[kWidth];
};

// `p` has to be aligned to the pack.
template <int kWidth>
__device__ __forceinline__ Pack<kWidth> load(const float* p) {
  return *reinterpret_cast<const Pack<kWidth>*>(p);
}
template <int kWidth>
__device__ __forceinline__ void store(float* p, const Pack<kWidth>& pack) {
  *reinterpret_cast<Pack<kWidth>*>(p) = pack;
}

inline constexpr int kPackWidth = 4;
inline constexpr int kHostWarp = 32;  // warpSize, which the host has not

inline bool aligned_to_pack(std::initializer_list<const void*> pointers) {
  for (const void* p : pointers)
    if (reinterpret_cast<uintptr_t>(p) % sizeof(Pack<kPackWidth>) != 0) return false;
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
