// SPDX-License-Identifier: Apache-2.0
// The memory plan: which pieces of one arena hold what, and when.
#pragma once

#include <cstdint>
#include <vector>

namespace sextant::deploy {

// A block that must keep its contents from step `first` to step `last`, both included.
struct Interval {
  int64_t bytes = 0;
  int first = 0;
  int last = 0;
};

struct MemoryPlan {
  std::vector<int64_t> offsets;  // one per interval, multiples of 64
  int64_t bytes = 0;             // of the arena
  int64_t unshared_bytes = 0;    // if nothing shared memory
};

// Largest blocks first, each at the lowest offset where no block alive at the same time is
// (greedy by size: Pisarchyk and Lee 2020, "Efficient Memory Management for Deep Neural Net
// Inference", section 5.2). Blocks that overlap in time never overlap in memory.
MemoryPlan plan_memory(const std::vector<Interval>& intervals);

}  // namespace sextant::deploy
