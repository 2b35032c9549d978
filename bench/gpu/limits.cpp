// SPDX-License-Identifier: Apache-2.0
#include "limits.h"

#include <cublas_v2.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <memory>
#include <sstream>

#include "core/device.h"
#include "kernels/cuda/device/check.h"
#include "kernels/cuda/libraries/cublas.h"

namespace sextant::bench {
namespace {

using kernels::cuda::Event;

// Seconds of one run, the best of some rounds.
template <class F>
double seconds_of(const F& run) {
  constexpr int kRounds = 6, kRuns = 5;
  const Event start(true), end(true);
  double best = INFINITY;
  for (int round = 0; round < kRounds; ++round) {
    start.record({});
    for (int i = 0; i < kRuns; ++i) run();
    end.record({});
    best = std::min(best, 1e-3 * static_cast<double>(end.since(start)) / kRuns);
  }
  return best;
}

double copy_gb_s() {
  constexpr int64_t kBytes = int64_t{1} << 30;
  const Workspace from(kBytes), to(kBytes);
  accelerator().fill_zero(from.data(), kBytes, {});
  const double s = seconds_of([&] { accelerator().copy(to.data(), from.data(), kBytes, {}); });
  return 2e-9 * static_cast<double>(kBytes) / s;
}

// 1e12 operations a second of an n x n x n product. Zeros would draw less power than values do, and
// so run at a higher clock: operands are bytes of a pattern that is a small number in each type.
double gemm(cudaDataType_t type, int64_t size, cudaDataType_t result, int64_t result_size,
            cublasComputeType_t compute) {
  constexpr int n = 8192;
  constexpr int64_t kCount = int64_t{n} * n;
  const Workspace a(kCount * size), b(kCount * size), c(kCount * result_size);
  std::vector<uint8_t> bytes(static_cast<size_t>(kCount * size));
  for (size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<uint8_t>(0x28 + (i * 2654435761u >> 13) % 16);
  accelerator().upload(a.data(), bytes.data(), kCount * size, {});
  accelerator().upload(b.data(), bytes.data(), kCount * size, {});
  const kernels::cuda::CublasHandle handle;
  const float one_f = 1, zero_f = 0;
  const int32_t one_i = 1, zero_i = 0;
  const bool integers = compute == CUBLAS_COMPUTE_32I;
  const void* one = integers ? static_cast<const void*>(&one_i) : &one_f;
  const void* zero = integers ? static_cast<const void*>(&zero_i) : &zero_f;
  const double s = seconds_of([&] {
    SEXTANT_CUBLAS(
        cublasGemmEx(handle.on({}), CUBLAS_OP_T, CUBLAS_OP_N, n, n, n, one, a.data(), type, n,
                     b.data(), type, n, zero, c.data(), result, n, compute, CUBLAS_GEMM_DEFAULT),
        "a product");
  });
  return 2e-12 * std::pow(static_cast<double>(n), 3) / s;
}

// The first line that a command prints; empty when it fails.
std::string line_of(const char* command) {
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command, "r"), pclose);
  std::array<char, 512> text{};
  if (!pipe || !std::fgets(text.data(), text.size(), pipe.get())) return "";
  std::string line(text.data());
  line.erase(line.find_last_not_of("\r\n") + 1);
  return line;
}

}  // namespace

Json measure_limits() {
  return {
      {"copy_gb_s", copy_gb_s()},
      {"gemm_f32_tflops", gemm(CUDA_R_32F, 4, CUDA_R_32F, 4, CUBLAS_COMPUTE_32F_PEDANTIC)},
      {"gemm_f16_tflops", gemm(CUDA_R_16F, 2, CUDA_R_16F, 2, CUBLAS_COMPUTE_32F)},
      {"gemm_int8_tops", gemm(CUDA_R_8I, 1, CUDA_R_32I, 4, CUBLAS_COMPUTE_32I)},
  };
}

Json describe_device() {
  int device = 0, driver = 0, runtime = 0;
  cudaDeviceProp p{};
  SEXTANT_CUDA(cudaGetDevice(&device), "current CUDA device");
  SEXTANT_CUDA(cudaGetDeviceProperties(&p, device), "properties of the CUDA device");
  SEXTANT_CUDA(cudaDriverGetVersion(&driver), "driver version");
  SEXTANT_CUDA(cudaRuntimeGetVersion(&runtime), "CUDA version");
  Json j = {{"name", p.name},
            {"capability", fmt::format("{}.{}", p.major, p.minor)},
            {"multiprocessors", p.multiProcessorCount},
            {"memory_gb", static_cast<double>(p.totalGlobalMem) * 1e-9},
            {"cuda_driver", driver},
            {"cuda_runtime", runtime}};
  const std::array<const char*, 6> fields = {"driver_version", "clocks.sm",      "clocks.mem",
                                             "clocks.max.sm",  "clocks.max.mem", "power.limit"};
  std::istringstream values(
      line_of(fmt::format("nvidia-smi -i {} --query-gpu={} --format=csv,noheader 2>/dev/null",
                          device, fmt::join(fields, ","))
                  .c_str()));
  std::string value;
  for (const char* field : fields)
    if (std::getline(values >> std::ws, value, ',')) j[field] = value;
  return j;
}

}  // namespace sextant::bench
