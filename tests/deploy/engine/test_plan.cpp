// SPDX-License-Identifier: Apache-2.0
// The memory plan: no two blocks alive at once overlap, and sharing pays.
#include <algorithm>

#include "deploy/engine/plan.h"
#include "support/support.h"

using namespace sextant;
using namespace sextant::deploy;

namespace {

// The most bytes alive at any step: no plan can do with less.
int64_t lower_bound(const std::vector<Interval>& blocks) {
  int64_t most = 0;
  for (const Interval& at : blocks) {
    int64_t sum = 0;
    for (const Interval& b : blocks)
      if (b.first <= at.first && at.first <= b.last) sum += (b.bytes + 63) / 64 * 64;
    most = std::max(most, sum);
  }
  return most;
}

}  // namespace

TEST_CASE("blocks alive at once never overlap") {
  const uint64_t seed = GENERATE(range(0, 20));
  Rng rng(seed);
  std::vector<Interval> blocks;
  for (int i = 0; i < 120; ++i) {
    const int first = static_cast<int>(rng.below(60));
    blocks.push_back({1 + rng.below(100000), first, first + static_cast<int>(rng.below(8))});
  }
  const MemoryPlan plan = plan_memory(blocks);
  REQUIRE(plan.offsets.size() == blocks.size());
  int overlaps = 0;
  for (size_t i = 0; i < blocks.size(); ++i) {
    CHECK(plan.offsets[i] % 64 == 0);
    CHECK(plan.offsets[i] + blocks[i].bytes <= plan.bytes);
    for (size_t j = 0; j < i; ++j) {
      const bool time = blocks[i].first <= blocks[j].last && blocks[j].first <= blocks[i].last;
      const bool space = plan.offsets[i] < plan.offsets[j] + blocks[j].bytes &&
                         plan.offsets[j] < plan.offsets[i] + blocks[i].bytes;
      overlaps += time && space;
    }
  }
  CHECK(overlaps == 0);
  CHECK(plan.bytes >= lower_bound(blocks));
  CHECK(static_cast<double>(plan.bytes) < 1.35 * static_cast<double>(lower_bound(blocks)));
}

TEST_CASE("a chain needs two blocks, whatever its length") {
  std::vector<Interval> blocks;
  for (int i = 0; i < 50; ++i) blocks.push_back({1000, i, i + 1});
  const MemoryPlan plan = plan_memory(blocks);
  CHECK(plan.bytes == 2 * 1024);
  CHECK(plan.unshared_bytes == 50 * 1024);
  CHECK(plan_memory({}).bytes == 0);
}
