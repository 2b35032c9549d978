// The cases of the CUDA kernels, the same on the host SIMT runner (test_simt) and on a device
// (test_gpu): each compares with a plain double-precision reference and with the CPU kernel.
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

// Bytes in the backend's memory between two guards, `offset` bytes after an aligned address.
class DeviceMemory {
 public:
  DeviceMemory(Backend& backend, std::vector<char> bytes, int64_t offset);
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

  Backend& backend_;
  int64_t offset_;
  char* base_;
  std::vector<char> before_;
};

// Elements of one type, `offset` of them after an aligned address.
template <class T>
class DeviceArrayOf : public DeviceMemory {
 public:
  DeviceArrayOf(Backend& backend, const std::vector<T>& values, int64_t offset = 0)
      : DeviceMemory(backend,
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

// Starts a CUDA kernel, its workspace between guards.
template <class Params>
void start(Backend& backend, void (*kernel)(const Params&, void*, Stream),
           const std::type_identity_t<Params>& p) {
  const int64_t bytes = kernels::cuda::workspace_bytes(p);
  if (bytes == 0) return kernel(p, nullptr, backend.stream());
  const DeviceMemory workspace(backend, std::vector<char>(static_cast<size_t>(bytes), -1), 0);
  kernel(p, workspace.data(), backend.stream());
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

// Each runs its cases under every seed of the backend.
void elementwise_cases(Backend& backend);
void elementwise_in_place_cases(Backend& backend);
void fake_quant_cases(Backend& backend);
void fake_quant_edge_cases(Backend& backend);
// Quantization and requantization with LSQ's gradients.
void requantize_cases(Backend& backend);
// The largest |x| and counts of |x|.
void histogram_cases(Backend& backend);
// Forward and backward in training and eval over channels x rows x branches x activations.
void rep_bn_act_cases(Backend& backend);
// The same in f16 and bf16.
void rep_bn_act_half_cases(Backend& backend);
// A mean far from zero, an outlier in the first row, a constant channel.
void rep_bn_act_hard_statistics(Backend& backend);
// Which gradients and running statistics are wanted, pointers without alignment.
void rep_bn_act_option_cases(Backend& backend);
// Forward over dtypes x shapes, with epilogues; every tile shape.
void conv_forward_cases(Backend& backend);
void conv_forward_option_cases(Backend& backend);
void conv_forward_pitch_cases(Backend& backend);
// Data, weight and bias gradients over dtypes x shapes.
void conv_backward_data_cases(Backend& backend);
void conv_backward_weight_cases(Backend& backend);
// Exact integers over types, epilogues and shapes.
void conv_int8_cases(Backend& backend);
void conv_refusal_cases(Backend& backend);
// Three steps of every rule over a list of tensors, the second one skipped by an overflow.
void optimizer_cases(Backend& backend);
void loss_scaling_cases(Backend& backend);
void kl_div_cases(Backend& backend);
void bernoulli_kl_cases(Backend& backend);
void anchor_boxes_cases(Backend& backend);
// Max-, chained and average pools, forward and backward.
void pool_cases(Backend& backend);
void upsample_and_copy_cases(Backend& backend);
void branch_sum_cases(Backend& backend);
void cast_cases(Backend& backend);
// Of tensors with a pitch, in every type: moved, pooled, added, converted, averaged.
void move_rows_cases(Backend& backend);
void pool_rows_cases(Backend& backend);
void map_rows_cases(Backend& backend);
void mean_and_softmax_rows_cases(Backend& backend);
// Bad parameters give an Error that names them.
void refusal_cases(Backend& backend);
// So do types: 16 bits on the CPU, f64 on either.
void dtype_refusal_cases(Backend& backend);

}  // namespace sextant::test
