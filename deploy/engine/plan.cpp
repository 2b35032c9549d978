// SPDX-License-Identifier: Apache-2.0
#include "deploy/engine/plan.h"

#include <algorithm>
#include <numeric>

namespace sextant::deploy {
namespace {

constexpr int64_t kAlignment = 64;

int64_t aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

MemoryPlan plan_memory(const std::vector<Interval>& intervals) {
  MemoryPlan plan;
  plan.offsets.assign(intervals.size(), 0);
  std::vector<size_t> order(intervals.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return intervals[a].bytes > intervals[b].bytes; });
  std::vector<size_t> placed;  // by offset
  for (const size_t i : order) {
    const Interval& block = intervals[i];
    int64_t offset = 0;
    for (const size_t j : placed) {
      const Interval& other = intervals[j];
      if (other.last < block.first || block.last < other.first) continue;
      if (offset + aligned(block.bytes) <= plan.offsets[j]) break;
      offset = std::max(offset, plan.offsets[j] + aligned(other.bytes));
    }
    plan.offsets[i] = offset;
    plan.bytes = std::max(plan.bytes, offset + aligned(block.bytes));
    plan.unshared_bytes += aligned(block.bytes);
    const auto place = std::find_if(placed.begin(), placed.end(),
                                    [&](size_t j) { return plan.offsets[j] > offset; });
    placed.insert(place, i);
  }
  return plan;
}

}  // namespace sextant::deploy
