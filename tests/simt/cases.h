// The cases of the CUDA kernels, the same on the host SIMT runner (test_simt) and on a device
// (test_gpu): each compares with a plain double-precision reference and with the CPU kernel.
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "core/stream.h"
#include "support/support.h"

namespace sextant::test {

// Where a case runs.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual void* allocate(int64_t bytes) = 0;  // aligned to 256 bytes
  virtual void release(void* p) = 0;
  virtual void upload(void* to, const void* from, int64_t bytes) = 0;
  // Waits for the kernels started before.
  virtual void download(void* to, const void* from, int64_t bytes) = 0;
  // Makes every access an error until allow(), where the backend can.
  virtual void forbid(void* p, int64_t bytes) = 0;
  virtual void allow(void* p, int64_t bytes) = 0;
  virtual Stream stream() = 0;
  // Schedules to run each case under; start() begins one.
  virtual std::vector<uint64_t> seeds() const = 0;
  virtual void start(uint64_t seed) = 0;
};

// Floats in the backend's memory between two guards. `offset` floats after an aligned address.
class DeviceArray {
 public:
  DeviceArray(Backend& backend, const std::vector<float>& values, int64_t offset = 0);
  ~DeviceArray();
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  float* data() const { return base_ + kGuard + offset_; }
  // The values now; fails the test when a guard was written to.
  std::vector<float> values() const;
  bool guards_intact() const;
  // Fails the test when a guard or a value was written to.
  void require_unchanged() const;

 private:
  static constexpr int64_t kGuard = 64;
  int64_t total() const { return 2 * kGuard + offset_ + n_; }
  void guard(bool forbid) const;
  std::vector<float> download() const;

  Backend& backend_;
  int64_t n_;
  int64_t offset_;
  float* base_;
  std::vector<float> before_;
};

// An output before it is written: NaN throughout.
std::vector<float> undefined(int64_t n);
std::vector<float> random_values(int64_t n, uint64_t seed, double low, double high);
// max |a - b| / (1 + |b|); infinity when just one of a and b is NaN (or a size differs).
template <class T>
double worst_error(const std::vector<float>& a, const std::vector<T>& b);
bool same_bits(const std::vector<float>& a, const std::vector<float>& b);

// Each runs its cases under every seed of the backend.
void elementwise_cases(Backend& backend);
void elementwise_in_place_cases(Backend& backend);
void fake_quant_cases(Backend& backend);
void fake_quant_edge_cases(Backend& backend);
// Forward and backward in training and eval over channels x rows x branches x activations.
void rep_bn_act_cases(Backend& backend);
// A mean far from zero, an outlier in the first row, a constant channel.
void rep_bn_act_hard_statistics(Backend& backend);
// Which gradients and running statistics are wanted, pointers without alignment.
void rep_bn_act_option_cases(Backend& backend);
// Bad parameters give an Error that names them.
void refusal_cases(Backend& backend);

}  // namespace sextant::test
