// SPDX-License-Identifier: Apache-2.0
// Batch statistics over the images of all processes. While a scope lives on this thread, batch-norm
// in training (rep_bn_act, rep_vgg) takes the statistics of the whole batch, of which each process
// has a part, and its backward pass, also after the scope, subtracts the means over the whole batch.
//
//   {
//     const SharedStatistics scope(processes());  // null: those of this process's images
//     y = model.forward(x);
//   }
//   backward(loss);
#pragma once

#include "core/communicator.h"

namespace sextant {

class SharedStatistics {
 public:
  explicit SharedStatistics(Communicator* communicator) : before_(current_) {
    current_ = communicator;
  }
  ~SharedStatistics() { current_ = before_; }
  SharedStatistics(const SharedStatistics&) = delete;
  SharedStatistics& operator=(const SharedStatistics&) = delete;

  static Communicator* current() { return current_; }

 private:
  static inline thread_local Communicator* current_ = nullptr;
  Communicator* before_;
};

}  // namespace sextant
