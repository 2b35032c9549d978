// SPDX-License-Identifier: Apache-2.0
// The host SIMT runner: the part of CUDA C++ that our kernels use, for the host compiler.
//
// Each CUDA thread is a fiber. A block's threads run one at a time, in an order shuffled by a seed;
// a thread runs on until it reaches a barrier or a warp function, and waits there for the others.
// Blocks run one after another, in shuffled order. So a missing barrier gives a wrong result with
// some seed, and the runner throws sextant::Error, naming kernel, block, threads and source lines,
// for
//   - a barrier that some threads of the block do not reach, having exited or waiting elsewhere
//   - a warp function whose mask names lanes that exited, do not exist or wait elsewhere, or leaves
//     out the caller; a shuffle that reads from a lane outside the mask
//   - a launch the device would refuse (no threads, too many, too much shared memory).
// Shared memory is allocated for each block at its exact size, for AddressSanitizer, and filled
// with 0xFF (floats NaN, integers -1), so that a read before a write shows. Built with ASan, the
// runner tells it of each change of stack.
//
// Not modelled: memory order between threads within one stretch between barriers (a thread is never
// interrupted there), warps in lock-step, streams (a launch runs at once) and clusters. Tensor
// cores and asynchronous copies are in simt/warp_matrix.h, 16-bit floating point is in simt/half.h.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <source_location>
#include <string>
#include <type_traits>

#include "simt/half.h"

// --- qualifiers ---------------------------------------------------------------------------------
// __shared__ is left out on purpose: SEXTANT_SHARED of kernels/cuda/device/launch.h gives each
// block its own memory here.
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) alignas(n)

// --- vector types -------------------------------------------------------------------------------
struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline int2 make_int2(int x, int y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }

// Set by the runner each time it resumes a thread.
extern uint3 threadIdx;
extern uint3 blockIdx;
extern dim3 blockDim;
extern dim3 gridDim;
inline constexpr int warpSize = 32;

namespace simt {

// Few, so that small cases reach the second turn of a grid-stride loop.
inline constexpr int kMultiprocessors = 2;

struct Launch {
  const char* kernel = "";
  dim3 grid;
  dim3 block;
  size_t shared_bytes = 0;
};

// Runs body() once for each thread of each block. After an Error the runner is ready for the next
// launch.
void run(const Launch& launch, const std::function<void()>& body);

// What kernels::cuda::launch() calls: run(), or nothing but handing it to the recorder.
void start(const Launch& launch, std::function<void()> body);
// Gets all that start() is given from here on, to be called when the work is to be done; null ends
// it.
void set_recorder(std::function<void(std::function<void()>)> recorder);

// Called before and after each launch: for memory that only kernels may touch.
void set_launch_hooks(std::function<void()> before, std::function<void()> after);

// Seeds the order of blocks and threads of the following launches.
void set_seed(uint64_t seed);

// Since the last set_seed().
struct Counts {
  int64_t launches = 0;
  int64_t blocks = 0;
  int64_t threads = 0;
  int64_t barriers = 0;  // block barriers passed
};
Counts counts();

// Throws Error from inside a kernel, naming kernel, block and thread.
[[noreturn]] void kernel_error(const std::string& what, const std::source_location& site);

// This block's memory of `bytes` bytes for the variable that `key` identifies.
void* static_shared_bytes(const void* key, size_t bytes, size_t alignment);
template <class T>
T& static_shared(const void* key) {
  static_assert(std::is_trivially_copyable_v<T>);
  return *static_cast<T*>(static_shared_bytes(key, sizeof(T), alignof(T)));
}
void* dynamic_shared_bytes();
template <class T>
T* dynamic_shared() {
  return static_cast<T*>(dynamic_shared_bytes());
}

using Site = std::source_location;

enum class Collective { kBarrier, kWarpBarrier, kShuffle, kVote, kFunction };
enum class Shuffle { kIndex, kUp, kDown, kXor };

// What a thread brings to a collective and what it gets.
struct Exchange {
  Collective kind = Collective::kBarrier;
  Shuffle shuffle = Shuffle::kIndex;
  unsigned mask = 0;      // warp collectives
  int lane_argument = 0;  // shuffles: source lane, delta or lane mask
  int width = warpSize;
  uint64_t value = 0;   // in: bits of the value, or the predicate
  uint64_t result = 0;  // out: bits of the value; count of true predicates; ballot
  Site site;
  // kFunction: work(lanes) runs once, when all lanes have come; lanes[i] is lane i's.
  const char* name = "";
  void* lane = nullptr;
  void (*work)(void* const* lanes) = nullptr;
};
void collective(Exchange& exchange);

// A function of a whole warp.
inline void warp_function(const char* name, void* lane, void (*work)(void* const*),
                          const Site& site) {
  Exchange e{Collective::kFunction,
             Shuffle::kIndex,
             0xffffffffu,
             0,
             warpSize,
             0,
             0,
             site,
             name,
             lane,
             work};
  collective(e);
}

template <class T>
T shuffle(Shuffle how, unsigned mask, T value, int argument, int width, const Site& site) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof(uint64_t));
  Exchange e{Collective::kShuffle, how, mask, argument, width, 0, 0, site};
  std::memcpy(&e.value, &value, sizeof(T));
  collective(e);
  std::memcpy(&value, &e.result, sizeof(T));
  return value;
}
inline unsigned vote(unsigned mask, bool predicate, const Site& site) {
  Exchange e{Collective::kVote, Shuffle::kIndex, mask, 0, warpSize, predicate, 0, site};
  collective(e);
  return static_cast<unsigned>(e.result);
}
inline int barrier(bool predicate, const Site& site) {
  Exchange e{Collective::kBarrier, Shuffle::kIndex, 0, 0, warpSize, predicate, 0, site};
  collective(e);
  return static_cast<int>(e.result);
}

}  // namespace simt

// --- barriers, shuffles, votes ------------------------------------------------------------------
inline void __syncthreads(simt::Site site = simt::Site::current()) { simt::barrier(false, site); }
inline int __syncthreads_count(int predicate, simt::Site site = simt::Site::current()) {
  return simt::barrier(predicate != 0, site);
}
inline int __syncthreads_or(int predicate, simt::Site site = simt::Site::current()) {
  return simt::barrier(predicate != 0, site) > 0;
}
inline int __syncthreads_and(int predicate, simt::Site site = simt::Site::current()) {
  return simt::barrier(predicate == 0, site) == 0;
}
inline void __syncwarp(unsigned mask = 0xffffffffu, simt::Site site = simt::Site::current()) {
  simt::Exchange e{
      simt::Collective::kWarpBarrier, simt::Shuffle::kIndex, mask, 0, warpSize, 0, 0, site};
  simt::collective(e);
}
template <class T>
T __shfl_sync(unsigned mask, T value, int lane, int width = warpSize,
              simt::Site site = simt::Site::current()) {
  return simt::shuffle(simt::Shuffle::kIndex, mask, value, lane, width, site);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = warpSize,
                 simt::Site site = simt::Site::current()) {
  return simt::shuffle(simt::Shuffle::kUp, mask, value, static_cast<int>(delta), width, site);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = warpSize,
                   simt::Site site = simt::Site::current()) {
  return simt::shuffle(simt::Shuffle::kDown, mask, value, static_cast<int>(delta), width, site);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = warpSize,
                  simt::Site site = simt::Site::current()) {
  return simt::shuffle(simt::Shuffle::kXor, mask, value, lane_mask, width, site);
}
inline unsigned __ballot_sync(unsigned mask, int predicate,
                              simt::Site site = simt::Site::current()) {
  return simt::vote(mask, predicate != 0, site);
}
inline int __any_sync(unsigned mask, int predicate, simt::Site site = simt::Site::current()) {
  return simt::vote(mask, predicate != 0, site) != 0;
}
inline int __all_sync(unsigned mask, int predicate, simt::Site site = simt::Site::current()) {
  return simt::vote(mask, predicate != 0, site) == mask;
}
inline void __threadfence() {}
inline void __threadfence_block() {}
[[noreturn]] inline void __trap(simt::Site site = simt::Site::current()) {
  simt::kernel_error("__trap()", site);
}

// --- atomics ------------------------------------------------------------------------------------
// Threads are not interrupted, so plain code is atomic.
namespace simt {
template <class T, class F>
T exchange_atomically(T* address, F&& next) {
  const T old = *address;
  *address = next(old);
  return old;
}
}  // namespace simt
template <class T>
T atomicAdd(T* address, std::type_identity_t<T> v) {
  if constexpr (std::is_integral_v<T>) {  // wraps around
    using U = std::make_unsigned_t<T>;
    return simt::exchange_atomically(
        address, [&](T old) { return static_cast<T>(static_cast<U>(old) + static_cast<U>(v)); });
  } else {
    return simt::exchange_atomically(address, [&](T old) { return old + v; });
  }
}
template <class T>
T atomicMax(T* address, std::type_identity_t<T> v) {
  return simt::exchange_atomically(address, [&](T old) { return std::max(old, v); });
}
template <class T>
T atomicMin(T* address, std::type_identity_t<T> v) {
  return simt::exchange_atomically(address, [&](T old) { return std::min(old, v); });
}
template <class T>
T atomicOr(T* address, std::type_identity_t<T> v) {
  return simt::exchange_atomically(address, [&](T old) { return old | v; });
}
template <class T>
T atomicExch(T* address, std::type_identity_t<T> v) {
  return simt::exchange_atomically(address, [&](T) { return v; });
}
template <class T>
T atomicCAS(T* address, std::type_identity_t<T> expected, std::type_identity_t<T> v) {
  return simt::exchange_atomically(address, [&](T old) { return old == expected ? v : old; });
}

// --- arithmetic ---------------------------------------------------------------------------------
template <class T>
T __ldg(const T* p) {
  return *p;
}
inline float __int_as_float(int v) {
  float f;
  std::memcpy(&f, &v, sizeof f);
  return f;
}
inline int __float_as_int(float f) {
  int v;
  std::memcpy(&v, &f, sizeof v);
  return v;
}
// Never contracted to a fused multiply-add, hence not inlined.
[[gnu::noinline]] inline float __fadd_rn(float a, float b) { return a + b; }
[[gnu::noinline]] inline float __fmul_rn(float a, float b) { return a * b; }
inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __ffs(int v) { return __builtin_ffs(v); }
inline int __clz(int v) { return v == 0 ? 32 : __builtin_clz(static_cast<unsigned>(v)); }
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>((static_cast<uint64_t>(a) * b) >> 32);
}
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __saturatef(float x) { return x > 0.0f ? std::min(x, 1.0f) : 0.0f; }

// --- 16-bit floating point ----------------------------------------------------------------------
using __half = simt::half;
using __nv_bfloat16 = simt::bfloat16;
inline float __half2float(__half v) { return simt::to_float(v); }
inline __half __float2half_rn(float v) { return simt::to_half(v); }
inline float __bfloat162float(__nv_bfloat16 v) { return simt::to_float(v); }
inline __nv_bfloat16 __float2bfloat16_rn(float v) { return simt::to_bfloat16(v); }
