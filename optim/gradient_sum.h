// SPDX-License-Identifier: Apache-2.0
// The gradients of a batch that is shared out to several processes: the sum of theirs.
#pragma once

#include <vector>

#include "core/communicator.h"
#include "optim/param_groups.h"

namespace sextant::optim {

class GradientSum {
 public:
  // `parameters` are the same on every process, in the same order. They are summed in buckets of
  // about so many bytes, those that a backward pass reaches first before the others.
  GradientSum(const std::vector<NamedParameter>& parameters, Communicator& across,
              int64_t bucket_bytes);

  // Every parameter's gradient becomes the sum over all processes. The first call settles, over all
  // processes, which parameters have one; from then on each of these takes part, with zeros where a
  // process has none, and any other must not get one (throws Error naming it).
  void sum();

  int64_t buckets() const { return static_cast<int64_t>(buckets_.size()); }
  int64_t bytes() const { return bytes_; }  // of one sum()

 private:
  struct Bucket {
    std::vector<size_t> parameters;
    Tensor values;  // f32
  };
  void settle();
  void sum(const Bucket& bucket) const;

  std::vector<NamedParameter> parameters_;
  Communicator& across_;
  const int64_t bucket_bytes_;
  std::vector<bool> takes_part_;  // empty before the first sum()
  std::vector<Bucket> buckets_;
  int64_t bytes_ = 0;
};

}  // namespace sextant::optim
