// SPDX-License-Identifier: Apache-2.0
// Starting CUDA kernels, on the device or on the host SIMT runner.
//
// Kernels are never started with <<<>>>: every .cu file is valid C++ as well. nvcc compiles it for
// the device; the tests compile the same file with the host compiler and SEXTANT_SIMT defined, and
// tests/simt/simt.h supplies the device language. What differs between the two is here:
//
//   __global__ void scale(const float* x, float* y, float a, int64_t n) {
//     SEXTANT_SHARED(float[32][33], tile);     // instead of __shared__ float tile[32][33];
//     SEXTANT_DYNAMIC_SHARED(float, buffer);   // instead of extern __shared__ float buffer[];
//     ...
//   }
//   launch(SEXTANT_KERNEL(scale), grid, block, shared_bytes, stream, x, y, 2.0f, n);
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <tuple>
#include <type_traits>
#include <utility>

#include "core/error.h"
#include "core/stream.h"

#if defined(SEXTANT_SIMT)
#include "simt/simt.h"
#else
#include <cuda_runtime.h>
#endif

#if defined(SEXTANT_SIMT)
#define SEXTANT_SHARED(type, name)           \
  static constexpr char name##_shared_key{}; \
  auto& name = ::simt::static_shared<std::type_identity_t<type>>(&name##_shared_key)
#define SEXTANT_DYNAMIC_SHARED(type, name) type* const name = ::simt::dynamic_shared<type>()
#else
#define SEXTANT_SHARED(type, name) __shared__ std::type_identity_t<type> name
#define SEXTANT_DYNAMIC_SHARED(type, name)                                 \
  extern __shared__ __align__(16) unsigned char sextant_dynamic_shared_[]; \
  type* const name = reinterpret_cast<type*>(sextant_dynamic_shared_)
// Throws Error "<what>: <text> (<cudaError name>)" unless a CUDA runtime call succeeds.
#define SEXTANT_CUDA_CHECK(call, what)                                                        \
  do {                                                                                        \
    const cudaError_t sextant_status_ = (call);                                               \
    if (sextant_status_ != cudaSuccess)                                                       \
      throw ::sextant::Error(std::string(what) + ": " + cudaGetErrorString(sextant_status_) + \
                             " (" + cudaGetErrorName(sextant_status_) + ")");                 \
  } while (false)
#endif

namespace sextant::kernels::cuda {

// A __global__ function with its name, for messages.
template <class... Params>
struct Kernel {
  const char* name;
  void (*function)(Params...);
};
template <class... Params>
Kernel<Params...> named_kernel(const char* name, void (*function)(Params...)) {
  return {name, function};
}
#define SEXTANT_KERNEL(...) ::sextant::kernels::cuda::named_kernel(#__VA_ARGS__, __VA_ARGS__)

// Runs `kernel` over `grid` blocks of `block` threads with `shared_bytes` of dynamic shared memory,
// ordered by `stream`; returns before it has finished (on the device). The arguments are converted
// to the kernel's parameter types. Throws Error naming the kernel and its shape when it cannot be
// started; the SIMT runner also throws for what goes wrong while it runs.
template <class... Params, class... Args>
void launch(const Kernel<Params...>& kernel, dim3 grid, dim3 block, size_t shared_bytes,
            Stream stream, Args&&... args) {
  static_assert(sizeof...(Params) == sizeof...(Args), "one argument for each kernel parameter");
  std::tuple<Params...> values(std::forward<Args>(args)...);
#if defined(SEXTANT_SIMT)
  static_cast<void>(stream);
  ::simt::start({kernel.name, grid, block, shared_bytes},
                [kernel, values] { std::apply(kernel.function, values); });
#else
  const void* function = reinterpret_cast<const void*>(kernel.function);
  constexpr size_t kSharedWithoutAsking = 48 * 1024;
  if (shared_bytes > kSharedWithoutAsking)
    SEXTANT_CUDA_CHECK(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                            static_cast<int>(shared_bytes)),
                       kernel.name);
  const cudaError_t status = std::apply(
      [&](auto&... value) {
        void* pointers[] = {static_cast<void*>(&value)..., nullptr};
        return cudaLaunchKernel(function, grid, block, pointers, shared_bytes,
                                static_cast<cudaStream_t>(stream.handle));
      },
      values);
  if (status != cudaSuccess) {
    const auto text = [](dim3 d) {
      return "(" + std::to_string(d.x) + "," + std::to_string(d.y) + "," + std::to_string(d.z) +
             ")";
    };
    throw Error(std::string(kernel.name) + ": grid " + text(grid) + ", block " + text(block) +
                ", " + std::to_string(shared_bytes) + " bytes of shared memory: " +
                cudaGetErrorString(status) + " (" + cudaGetErrorName(status) + ")");
  }
#endif
}

// Streaming multiprocessors of the current device.
inline int multiprocessors() {
#if defined(SEXTANT_SIMT)
  return ::simt::kMultiprocessors;
#else
  static const int count = [] {
    int device = 0;
    int value = 0;
    SEXTANT_CUDA_CHECK(cudaGetDevice(&device), "current device");
    SEXTANT_CUDA_CHECK(cudaDeviceGetAttribute(&value, cudaDevAttrMultiProcessorCount, device),
                       "number of multiprocessors");
    return value;
  }();
  return count;
#endif
}

// Blocks for `work` threads' worth of items in a grid-stride loop: enough to fill the device with
// `threads`-wide blocks (2048 resident threads a multiprocessor), no more.
inline unsigned grid_stride_blocks(int64_t work, int threads) {
  const int64_t wanted = (work + threads - 1) / threads;
  const int64_t resident = static_cast<int64_t>(multiprocessors()) * (2048 / threads);
  return static_cast<unsigned>(std::max<int64_t>(1, std::min(wanted, resident)));
}

}  // namespace sextant::kernels::cuda
