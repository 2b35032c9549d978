// SPDX-License-Identifier: Apache-2.0
// Processes that all do the same: every sum is so many times what one has.
#pragma once

#include "core/communicator.h"
#include "simt/cases/cases.h"

namespace sextant::test {

class TwinProcesses final : public Communicator {
 public:
  TwinProcesses(TestGpu& gpu, int count) : gpu_(gpu), count_(count) {}
  int rank() const override { return 0; }
  int size() const override { return count_; }
  int64_t sums = 0;

  void sum(void* values, int64_t n, DType dtype, Device device) override {
    REQUIRE(dtype == DType::kF64);
    ++sums;
    std::vector<double> v(static_cast<size_t>(n));
    const int64_t bytes = n * int64_t{sizeof(double)};
    if (device == Device::kCuda)
      gpu_.download(v.data(), values, bytes);
    else
      std::copy_n(static_cast<const double*>(values), n, v.begin());
    for (double& x : v) x *= count_;
    if (device == Device::kCuda)
      gpu_.upload(values, v.data(), bytes);
    else
      std::copy(v.begin(), v.end(), static_cast<double*>(values));
  }
  void broadcast(void*, int64_t, Device) override { FAIL("a broadcast in a kernel"); }
  std::vector<std::string> gather(const std::string&) override { return {}; }

 private:
  TestGpu& gpu_;
  int count_;
};

}  // namespace sextant::test
