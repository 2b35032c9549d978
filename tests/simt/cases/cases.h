// SPDX-License-Identifier: Apache-2.0
// The cases of the CUDA kernels, the same on the host SIMT runner (test_simt) and on a device
// (test_gpu): each compares with a plain double-precision reference and with the CPU kernel. A file
// of this folder defines a case and registers it for both:
//
//   KERNEL_CASE("cast kernels") {
//     for (const uint64_t seed : gpu.seeds()) {
//       gpu.start(seed);
//       ...
//       start(gpu, cuda::cast, {in.data(), from, out.data(), to, n});
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "core/stream.h"
#include "kernels/cuda/kernels.h"
#include "support/support.h"

namespace sextant::test {

// Where a case runs: the runner or a device.
class TestGpu {
 public:
  virtual ~TestGpu() = default;
  virtual void* allocate(int64_t bytes) = 0;  // aligned to 256 bytes
  virtual void release(void* p) = 0;
  virtual void upload(void* to, const void* from, int64_t bytes) = 0;
  // Waits for the kernels started before.
  virtual void download(void* to, const void* from, int64_t bytes) = 0;
  // Makes every access an error until allow(), where the device can.
  virtual void forbid(void* p, int64_t bytes) = 0;
  virtual void allow(void* p, int64_t bytes) = 0;
  virtual Stream stream() = 0;
  // Schedules to run each case under; start() begins one.
  virtual std::vector<uint64_t> seeds() const = 0;
  virtual void start(uint64_t seed) = 0;
};

// Bytes in the device's memory between two guards, `offset` bytes after an aligned address.
class DeviceMemory {
 public:
  DeviceMemory(TestGpu& gpu, std::vector<char> bytes, int64_t offset);
  ~DeviceMemory();
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  void* data() const { return begin(); }
  bool guards_intact() const;
  // Fails the test when a guard or a value was written to.
  void require_unchanged() const;

 protected:
  char* begin() const { return base_ + kGuard + offset_; }
  // The bytes now; fails the test when a guard was written to.
  std::vector<char> bytes() const;

 private:
  static constexpr int64_t kGuard = 256;
  int64_t size() const { return static_cast<int64_t>(before_.size()); }
  int64_t total() const { return 2 * kGuard + offset_ + size(); }
  void guard(bool forbid) const;
  std::vector<char> download() const;

  TestGpu& gpu_;
  int64_t offset_;
  char* base_;
  std::vector<char> before_;
};

// Elements of one type, `offset` of them after an aligned address.
template <class T>
class DeviceArrayOf : public DeviceMemory {
 public:
  DeviceArrayOf(TestGpu& gpu, const std::vector<T>& values, int64_t offset = 0)
      : DeviceMemory(gpu,
                     {reinterpret_cast<const char*>(values.data()),
                      reinterpret_cast<const char*>(values.data() + values.size())},
                     offset * static_cast<int64_t>(sizeof(T))) {}
  T* data() const { return reinterpret_cast<T*>(begin()); }
  // The values now; fails the test when a guard was written to.
  std::vector<T> values() const {
    const std::vector<char> now = bytes();
    std::vector<T> out(now.size() / sizeof(T));
    if (!out.empty()) std::memcpy(out.data(), now.data(), now.size());
    return out;
  }
};
using DeviceArray = DeviceArrayOf<float>;

// Runs a case on the runner or on a device; skips, with a message, where there is no device.
void run_case(void (*kernel_case)(TestGpu& gpu));

// test_simt has the runner only.
#if defined(SEXTANT_SIMT)
#define SEXTANT_CASE_TAGS ""
#else
#define SEXTANT_CASE_TAGS "[gpu][kernel]"
#endif
#define SEXTANT_KERNEL_CASE(name, function)                  \
  static void function(TestGpu& gpu);                        \
  TEST_CASE(name, SEXTANT_CASE_TAGS) { run_case(function); } \
  static void function(TestGpu& gpu)
#define SEXTANT_JOINED(a, b) a##b
#define SEXTANT_NUMBERED(a, number) SEXTANT_JOINED(a, number)
#define KERNEL_CASE(name) SEXTANT_KERNEL_CASE(name, SEXTANT_NUMBERED(kernel_case_, __COUNTER__))

// Starts a CUDA kernel, its workspace between guards.
template <class Params>
void start(TestGpu& gpu, void (*kernel)(const Params&, void*, Stream),
           const std::type_identity_t<Params>& p) {
  const int64_t bytes = kernels::cuda::workspace_bytes(p);
  if (bytes == 0) return kernel(p, nullptr, gpu.stream());
  const DeviceMemory workspace(gpu, std::vector<char>(static_cast<size_t>(bytes), -1), 0);
  kernel(p, workspace.data(), gpu.stream());
  REQUIRE(workspace.guards_intact());
}

// The CPU's kernels, to compare with.
inline const kernels::Backend& host_kernels() { return kernels::backend(Device::kCpu); }

// An output before it is written: NaN throughout.
std::vector<float> undefined(int64_t n);
std::vector<float> random_values(int64_t n, uint64_t seed, double low, double high);
// max |a - b| / (1 + |b|); infinity when just one of a and b is NaN (or a size differs).
template <class T>
double worst_error(const std::vector<float>& a, const std::vector<T>& b);
bool same_bits(const std::vector<float>& a, const std::vector<float>& b);

}  // namespace sextant::test
