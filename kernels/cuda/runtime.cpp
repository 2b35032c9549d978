// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/runtime.h"

#include <nvtx3/nvToolsExt.h>

#include <cstdlib>
#include <memory>
#include <mutex>

#include "core/device.h"
#include "core/profile_range.h"
#include "kernels/cuda/device/check.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/libraries/cublas_linear.h"
#if defined(SEXTANT_CUDNN)
#include "kernels/cuda/libraries/choose_conv.h"
#endif

namespace sextant::kernels {
namespace {

using cuda::Event;
using cuda::native;

constexpr int kLeastCapability = 80;

std::string version_text(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

// The device's properties, once it is known to be one that we can use.
cudaDeviceProp usable_device() {
  int driver = 0, runtime = 0, devices = 0, device = 0;
  static_cast<void>(cudaDriverGetVersion(&driver));
  static_cast<void>(cudaRuntimeGetVersion(&runtime));
  const cudaError_t status = cudaGetDeviceCount(&devices);
  if (driver == 0) fail("no CUDA device: no NVIDIA driver found");
  if (status == cudaErrorInsufficientDriver)
    fail("the NVIDIA driver is too old: it supports CUDA {}, this build needs {}",
         version_text(driver), version_text(runtime));
  if (status == cudaErrorNoDevice || (status == cudaSuccess && devices == 0))
    fail("no CUDA device: the driver finds no GPU (CUDA_VISIBLE_DEVICES={})",
         std::getenv("CUDA_VISIBLE_DEVICES") ? std::getenv("CUDA_VISIBLE_DEVICES") : "unset");
  SEXTANT_CUDA(status, "CUDA devices");
  cudaDeviceProp properties{};
  SEXTANT_CUDA(cudaGetDevice(&device), "current CUDA device");
  SEXTANT_CUDA(cudaGetDeviceProperties(&properties, device), "properties of the CUDA device");
  check(properties.major * 10 + properties.minor >= kLeastCapability,
        "CUDA device '{}' has compute capability {}.{}, at least {}.{} is needed", properties.name,
        properties.major, properties.minor, kLeastCapability / 10, kLeastCapability % 10);
  return properties;
}

class CudaAccelerator final : public Accelerator {
 public:
  explicit CudaAccelerator(std::string name) : name_(std::move(name)) {}

  std::string name() const override { return name_; }
  int64_t free_bytes() override {
    size_t free = 0, all = 0;
    return cudaMemGetInfo(&free, &all) == cudaSuccess ? static_cast<int64_t>(free) : 0;
  }

  void* allocate(int64_t bytes) override {
    void* p = nullptr;
    return allocated(cudaMalloc(&p, static_cast<size_t>(bytes)), "cudaMalloc") ? p : nullptr;
  }
  void release(void* p) noexcept override { static_cast<void>(cudaFree(p)); }
  void* allocate_pinned(int64_t bytes) override {
    void* p = nullptr;
    return allocated(cudaMallocHost(&p, static_cast<size_t>(bytes)), "cudaMallocHost") ? p
                                                                                       : nullptr;
  }
  void release_pinned(void* p) noexcept override { static_cast<void>(cudaFreeHost(p)); }

  // The runtime copies from pageable memory into its own buffer before it returns.
  void upload(void* to, const void* from, int64_t bytes, Stream stream) override {
    move(to, from, bytes, cudaMemcpyHostToDevice, stream);
  }
  // For pageable memory it returns when the copy is complete.
  void download(void* to, const void* from, int64_t bytes, Stream stream) override {
    move(to, from, bytes, cudaMemcpyDeviceToHost, stream);
    if (!pinned(to)) synchronize(stream);
  }
  void copy(void* to, const void* from, int64_t bytes, Stream stream) override {
    move(to, from, bytes, cudaMemcpyDeviceToDevice, stream);
  }
  void fill_zero(void* p, int64_t bytes, Stream stream) override {
    SEXTANT_CUDA(cudaMemsetAsync(p, 0, static_cast<size_t>(bytes), native(stream)), "memset");
  }
  void add_into(void* into, const void* values, int64_t n, DType dtype, Stream stream) override {
    cuda::add_scaled({.a = into, .b = values, .y = into, .n = n, .dtype = dtype}, nullptr, stream);
  }
  void synchronize(Stream stream) override {
    SEXTANT_CUDA(cudaStreamSynchronize(native(stream)), "CUDA work");
  }

  // Streams do not wait for the default stream by themselves: only wait() orders.
  Stream make_stream() override {
    cudaStream_t stream = nullptr;
    SEXTANT_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
    return {stream};
  }
  void destroy_stream(Stream stream) noexcept override {
    static_cast<void>(cudaStreamDestroy(native(stream)));
  }
  // A wait keeps the event as it was when the wait was asked for, so one event serves all.
  void wait(Stream stream, Stream before) override {
    const std::lock_guard lock(mutex_);
    event_.record(before);
    SEXTANT_CUDA(cudaStreamWaitEvent(native(stream), event_.get(), 0), "wait between streams");
  }

  bool begin_recording(Stream stream) override {
    if (!stream.handle) return false;
    // Relaxed: the caching allocator may ask for memory meanwhile.
    SEXTANT_CUDA(cudaStreamBeginCapture(native(stream), cudaStreamCaptureModeRelaxed),
                 "recording a CUDA graph");
    return true;
  }
  void* end_recording(Stream stream) override {
    cudaGraph_t graph = nullptr;
    SEXTANT_CUDA(cudaStreamEndCapture(native(stream), &graph), "recording a CUDA graph");
    cudaGraphExec_t executable = nullptr;
    const cudaError_t status = cudaGraphInstantiate(&executable, graph, 0);
    static_cast<void>(cudaGraphDestroy(graph));
    SEXTANT_CUDA(status, "a CUDA graph of recorded work");
    return executable;
  }
  void launch_recording(void* recording, Stream stream) override {
    SEXTANT_CUDA(cudaGraphLaunch(static_cast<cudaGraphExec_t>(recording), native(stream)),
                 "recorded work");
  }
  void destroy_recording(void* recording) noexcept override {
    if (recording) static_cast<void>(cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(recording)));
  }

 private:
  // False when memory ran out; the error is taken off the runtime's list.
  static bool allocated(cudaError_t status, const char* what) {
    if (status == cudaErrorMemoryAllocation) {
      static_cast<void>(cudaGetLastError());
      return false;
    }
    SEXTANT_CUDA(status, what);
    return true;
  }
  static bool pinned(const void* p) {
    cudaPointerAttributes attributes{};
    SEXTANT_CUDA(cudaPointerGetAttributes(&attributes, p), "kind of memory");
    return attributes.type == cudaMemoryTypeHost;
  }
  static void move(void* to, const void* from, int64_t bytes, cudaMemcpyKind kind, Stream stream) {
    SEXTANT_CUDA(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), kind, native(stream)),
                 "copy");
  }

  std::string name_;
  std::mutex mutex_;
  Event event_;
};

constexpr ProfileHooks kNvtx = {[](const char* name) { static_cast<void>(nvtxRangePushA(name)); },
                                [] { static_cast<void>(nvtxRangePop()); }};

// Runs one of our kernels: a build for other devices has none for this one.
void try_a_kernel(const cudaDeviceProp& device) {
  const Workspace one(static_cast<int64_t>(sizeof(float)));
  auto* p = static_cast<float*>(one.data());
  try {
    accelerator().fill_zero(p, sizeof(float), {});
    accelerator().add_into(p, p, 1, DType::kF32, {});
    accelerator().synchronize({});
  } catch (const Error& e) {
    fail(
        "this build does not run on CUDA device '{}' (compute capability {}.{}): {}; configure "
        "with -DCMAKE_CUDA_ARCHITECTURES={}{}",
        device.name, device.major, device.minor, e.what(), device.major, device.minor);
  }
}

}  // namespace

bool cuda_available(std::string* reason) {
  try {
    usable_device();
    return true;
  } catch (const Error& e) {
    if (reason) *reason = e.what();
    return false;
  }
}

void start_cuda() {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  if (has_accelerator()) return;
  // cuBLAS may otherwise cut a sum differently from one stream to the next.
  if (deterministic_mode()) setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", 0);
  const cudaDeviceProp device = usable_device();
  set_accelerator(std::make_unique<CudaAccelerator>(device.name));
  try {
    try_a_kernel(device);
  } catch (const Error&) {
    set_accelerator(nullptr);
    throw;
  }
  set_cuda_backend(&cuda::backend());
  set_profile_hooks(&kNvtx);
  // Both live as long as the process: work may run until its end.
  set_linear_library(cuda::cublas_linear().release());
#if defined(SEXTANT_CUDNN)
  if (!deterministic_mode()) {
    try {
      set_conv_library(cuda::cudnn_convolutions(cuda::conv_cache_folder()).release());
    } catch (const Error& e) {  // one of its many libraries absent, or made for another driver
      fmt::print(stderr, "cuDNN is not used for convolutions: {}\n", e.what());
    }
  }
#endif
}

bool deterministic_mode() {
  const char* value = std::getenv("SEXTANT_DETERMINISTIC");
  return value && std::string(value) != "0";
}

}  // namespace sextant::kernels
