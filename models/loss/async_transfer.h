// SPDX-License-Identifier: Apache-2.0
// Copies of a training step to the device and back, without waiting for it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/tensor.h"

namespace sextant::loss_detail {

// Pinned host memory that grows as needed.
class PinnedBlock {
 public:
  PinnedBlock() = default;
  ~PinnedBlock() { reset(0); }
  PinnedBlock(const PinnedBlock&) = delete;
  PinnedBlock& operator=(const PinnedBlock&) = delete;
  // At least `bytes` bytes; the contents are lost when it grows.
  std::byte* reserve(int64_t bytes);
  std::byte* data() const { return p_; }

 private:
  void reset(int64_t bytes);
  std::byte* p_ = nullptr;
  int64_t bytes_ = 0;
};

// The copies of one training step: one to the device, one back, on compute_stream().
class AsyncTransfer {
 public:
  AsyncTransfer();
  ~AsyncTransfer();
  AsyncTransfer(const AsyncTransfer&) = delete;
  AsyncTransfer& operator=(const AsyncTransfer&) = delete;

  // A buffer of `bytes` bytes for upload(), which copies as many as `to` has into device memory.
  std::byte* upload_buffer(int64_t bytes) { return out_.reserve(bytes); }
  void upload(const Tensor& to);
  // Starts the copy of a device tensor to the host.
  void download(const Tensor& values);
  // Waits only for the work submitted before the last download(), and returns the host's copy.
  const std::byte* downloaded();
  // Waits for both copies.
  void wait();

 private:
  void mark();
  PinnedBlock out_, in_;
  Stream mark_;  // does nothing but wait for a point of compute_stream()
  bool arrived_ = true;
};

// Reuses transfers that are no longer held, round-robin, so that their last copies are long
// complete.
class AsyncTransfers {
 public:
  std::shared_ptr<AsyncTransfer> next();

 private:
  static constexpr size_t kEnough = 4;
  std::vector<std::shared_ptr<AsyncTransfer>> boxes_;
  size_t turn_ = 0;
};

}  // namespace sextant::loss_detail
