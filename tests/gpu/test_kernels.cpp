// SPDX-License-Identifier: Apache-2.0
// Runs tests/simt/cases on the device: each case twice, with results that have to repeat bit for
// bit.
#include <cuda_runtime_api.h>

#include "simt/cases/cases.h"

namespace sextant::test {
namespace {

void must(cudaError_t status, const char* what) {
  sextant::check(status == cudaSuccess, "{}: {} ({})", what, cudaGetErrorString(status),
                 cudaGetErrorName(status));
}

class CudaGpu : public TestGpu {
 public:
  CudaGpu() { must(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "stream"); }
  ~CudaGpu() override { static_cast<void>(cudaStreamDestroy(stream_)); }
  CudaGpu(const CudaGpu&) = delete;
  CudaGpu& operator=(const CudaGpu&) = delete;

  void* allocate(int64_t bytes) override {
    void* p = nullptr;
    must(cudaMalloc(&p, static_cast<size_t>(bytes)), "cudaMalloc");
    return p;
  }
  void release(void* p) override { static_cast<void>(cudaFree(p)); }
  void upload(void* to, const void* from, int64_t bytes) override {
    copy(to, from, bytes, cudaMemcpyHostToDevice);
  }
  void download(void* to, const void* from, int64_t bytes) override {
    copy(to, from, bytes, cudaMemcpyDeviceToHost);
  }
  void forbid(void*, int64_t) override {}  // the guards' values are checked
  void allow(void*, int64_t) override {}
  Stream stream() override { return {stream_}; }
  std::vector<uint64_t> seeds() const override { return {0, 1}; }
  void start(uint64_t) override {}

 private:
  void copy(void* to, const void* from, int64_t bytes, cudaMemcpyKind kind) {
    must(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), kind, stream_), "copy");
    must(cudaStreamSynchronize(stream_), "kernels and copy");
  }

  cudaStream_t stream_ = nullptr;
};

}  // namespace

void run_case(void (*kernel_case)(TestGpu&)) {
  int devices = 0;
  const cudaError_t status = cudaGetDeviceCount(&devices);
  if (status != cudaSuccess || devices == 0) {
    skip(status != cudaSuccess ? cudaGetErrorString(status) : "no CUDA device");
    return;
  }
  CudaGpu gpu;
  kernel_case(gpu);
}

}  // namespace sextant::test
