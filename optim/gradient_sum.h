// SPDX-License-Identifier: Apache-2.0
// The gradients of a batch that is shared out to several processes: the sum of theirs.
#pragma once

#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "core/communicator.h"
#include "core/gradient_observer.h"
#include "optim/param_groups.h"

namespace sextant::optim {

class GradientSum {
 public:
  // `parameters` are the same on every process, in the same order. They are summed in buckets of
  // about so many bytes, those that a backward pass reaches first before the others.
  GradientSum(const std::vector<NamedParameter>& parameters, Communicator& across,
              int64_t bucket_bytes);
  ~GradientSum();
  GradientSum(const GradientSum&) = delete;
  GradientSum& operator=(const GradientSum&) = delete;

  // Every parameter's gradient becomes the sum over all processes. The first call settles, over all
  // processes, which parameters have one; from then on each of these takes part, with zeros where a
  // process has none, and any other must not get one (throws Error naming it).
  void sum();

  // The next backward pass on this thread is the last before sum(): its buckets are summed on
  // another thread, each as soon as the gradients in it are complete, and sum() waits for the rest.
  // A process may leave it out. Does nothing where the communicator has no second(), on a device,
  // and before the first sum().
  void overlap();

  int64_t buckets() const { return static_cast<int64_t>(buckets_.size()); }
  int64_t bytes() const { return bytes_; }  // of one sum()
  int64_t early() const { return early_; }  // buckets that were started within a backward pass

 private:
  struct Bucket {
    std::vector<size_t> parameters;
    Tensor values;     // f32
    int64_t left = 0;  // gradients that the pass has not completed yet
  };
  void settle();
  void completed(const void* id);
  void collect(const Bucket& bucket) const;
  void start_next();
  void spread(const Bucket& bucket) const;
  void serve();

  std::vector<NamedParameter> parameters_;
  Communicator& across_;
  const int64_t bucket_bytes_;
  std::vector<bool> takes_part_;  // empty before the first sum()
  std::vector<Bucket> buckets_;
  std::map<const void*, size_t> bucket_of_;
  int64_t bytes_ = 0, early_ = 0;
  std::optional<GradientObserver> observer_;

  // Buckets are summed in their order, by `thread_` where there is one.
  size_t started_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  size_t wanted_ = 0, summed_ = 0;  // buckets handed to the thread, and done by it
  std::exception_ptr error_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace sextant::optim
