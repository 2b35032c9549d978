// What a training step sends to the device and gets back, without waiting for it.
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
  // At least so many bytes; the contents are lost where it grows.
  std::byte* reserve(int64_t bytes);
  std::byte* data() const { return p_; }

 private:
  void reset(int64_t bytes);
  std::byte* p_ = nullptr;
  int64_t bytes_ = 0;
};

// One step's letters: one to the device, one back. All copies are work of compute_stream().
class Mailbox {
 public:
  Mailbox();
  ~Mailbox();
  Mailbox(const Mailbox&) = delete;
  Mailbox& operator=(const Mailbox&) = delete;

  // Where to write `bytes` bytes for send(), which copies as many as `to` has into device memory.
  std::byte* letter(int64_t bytes) { return out_.reserve(bytes); }
  void send(const Tensor& to);
  // Starts the copy of a device tensor to the host.
  void fetch(const Tensor& values);
  // Waits until the device has done what came before the last fetch(), no longer, and gives the
  // host's copy.
  const std::byte* received();
  // Waits until the letters have arrived.
  void settle();

 private:
  void mark();
  PinnedBlock out_, in_;
  Stream mark_;  // has nothing to do but to wait for a point of compute_stream()
  bool settled_ = true;
};

// A mailbox that nobody holds any more, by turns, so that its last letters have long arrived.
class Mailboxes {
 public:
  std::shared_ptr<Mailbox> next();

 private:
  static constexpr size_t kEnough = 4;
  std::vector<std::shared_ptr<Mailbox>> boxes_;
  size_t turn_ = 0;
};

}  // namespace sextant::loss_detail
