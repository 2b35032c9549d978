// SPDX-License-Identifier: Apache-2.0
#include "models/loss/async_transfer.h"

#include <algorithm>

namespace sextant::loss_detail {

void PinnedBlock::reset(int64_t bytes) {
  pinned_free(p_, bytes_);
  p_ = bytes > 0 ? static_cast<std::byte*>(pinned_allocate(bytes)) : nullptr;
  bytes_ = bytes;
}

std::byte* PinnedBlock::reserve(int64_t bytes) {
  if (bytes > bytes_) reset(std::max(bytes, 2 * bytes_));
  return p_;
}

AsyncTransfer::AsyncTransfer() : mark_(accelerator().make_stream()) {}

AsyncTransfer::~AsyncTransfer() {
  wait();
  accelerator().destroy_stream(mark_);
}

void AsyncTransfer::mark() {
  accelerator().wait(mark_, compute_stream());
  arrived_ = false;
}

void AsyncTransfer::wait() {
  if (!arrived_) accelerator().synchronize(mark_);
  arrived_ = true;
}

void AsyncTransfer::upload(const Tensor& to) {
  accelerator().upload(to.raw(), out_.data(), to.bytes(), compute_stream());
  mark();
}

void AsyncTransfer::download(const Tensor& values) {
  std::byte* to = in_.reserve(values.bytes());
  accelerator().download(to, values.raw(), values.bytes(), compute_stream());
  mark();
}

const std::byte* AsyncTransfer::downloaded() {
  wait();
  return in_.data();
}

std::shared_ptr<AsyncTransfer> AsyncTransfers::next() {
  for (size_t i = 0; boxes_.size() >= kEnough && i < boxes_.size(); ++i) {
    const std::shared_ptr<AsyncTransfer>& box = boxes_[turn_++ % boxes_.size()];
    if (box.use_count() > 1) continue;
    box->wait();
    return box;
  }
  boxes_.push_back(std::make_shared<AsyncTransfer>());
  return boxes_.back();
}

}  // namespace sextant::loss_detail
