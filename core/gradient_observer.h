// SPDX-License-Identifier: Apache-2.0
// Who wants to know, while a backward pass runs, that a gradient is complete.
#pragma once

#include <functional>
#include <utility>

namespace sextant {

// While it lives, backward() on this thread calls `done` with the id() of each leaf that it has given
// a gradient, when nothing more will be added to it in that pass.
class GradientObserver {
 public:
  using Done = std::function<void(const void* id)>;
  explicit GradientObserver(Done done)
      : done_(std::move(done)), before_(std::exchange(current_, this)) {}
  ~GradientObserver() { current_ = before_; }
  GradientObserver(const GradientObserver&) = delete;
  GradientObserver& operator=(const GradientObserver&) = delete;

  static void report(const void* id) {
    if (current_ != nullptr) current_->done_(id);
  }

 private:
  static inline thread_local GradientObserver* current_ = nullptr;
  Done done_;
  GradientObserver* before_;
};

}  // namespace sextant
