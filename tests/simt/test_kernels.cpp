// SPDX-License-Identifier: Apache-2.0
// Runs tests/simt/cases on the host SIMT runner.
#include <cstdlib>
#include <new>

#include "kernels/cuda/device/pack.cuh"
#include "simt/cases/cases.h"
#include "simt/simt.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace sextant::test {
namespace {

class SimtGpu : public TestGpu {
 public:
  void* allocate(int64_t bytes) override {
    return ::operator new(static_cast<size_t>(bytes), kAlignment);
  }
  void release(void* p) override { ::operator delete(p, kAlignment); }
  void upload(void* to, const void* from, int64_t bytes) override {
    std::memcpy(to, from, static_cast<size_t>(bytes));
  }
  void download(void* to, const void* from, int64_t bytes) override {
    std::memcpy(to, from, static_cast<size_t>(bytes));
  }
#if defined(__SANITIZE_ADDRESS__)
  void forbid(void* p, int64_t bytes) override {
    __asan_poison_memory_region(p, static_cast<size_t>(bytes));
  }
  void allow(void* p, int64_t bytes) override {
    __asan_unpoison_memory_region(p, static_cast<size_t>(bytes));
  }
#else
  void forbid(void*, int64_t) override {}
  void allow(void*, int64_t) override {}
#endif
  Stream stream() override { return {}; }
  std::vector<uint64_t> seeds() const override { return {1, 2, 3}; }
  void start(uint64_t seed) override { simt::set_seed(seed); }

 private:
  static constexpr std::align_val_t kAlignment{256};
};

// The 64-bit index of fake_quant runs only above 2^31 elements; its divider is checked here.
TEST_CASE("division by a launch constant") {
  using namespace sextant::kernels::cuda;
  const std::vector<int64_t> divisors = {1, 2, 3, 5, 7, 9, 16, 27, 68, 255, 1000003, 2147483647};
  Rng rng(5);
  for (const int64_t d : divisors) {
    const Divider<uint32_t> fast(d);
    const Divider<int64_t> plain(d);
    std::vector<int64_t> numbers = {
        0, 1, d - 1, d, 2147483647, 2147483647 / d * d, 2147483647 / d * d - 1};
    for (int i = 0; i < 2000; ++i) numbers.push_back(rng.below(int64_t{1} << 31));
    int wrong = 0;
    for (const int64_t n : numbers) {
      const auto u = static_cast<uint32_t>(n);
      if (fast.quotient(u) != n / d || fast.remainder(u) != n % d) ++wrong;
      if (plain.quotient(n) != n / d || plain.remainder(n) != n % d) ++wrong;
    }
    CAPTURE(d);
    CHECK(wrong == 0);
  }
}

}  // namespace

void run_case(void (*kernel_case)(TestGpu&)) {
  SimtGpu gpu;
  kernel_case(gpu);
}

}  // namespace sextant::test
