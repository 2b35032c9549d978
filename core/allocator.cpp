// SPDX-License-Identifier: Apache-2.0
#include "core/allocator.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdlib>

#include "core/error.h"

namespace sextant {
namespace {

int64_t size_class(int64_t bytes) {
  bytes = std::max<int64_t>(bytes, 64);
  const int64_t quarter =
      std::max<int64_t>(64, static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(bytes))) / 4);
  return (bytes + quarter - 1) / quarter * quarter;
}

// Large blocks lie in large pages where the system has them: weights that are read once in a layer
// meet a new small page every 64 steps, and a first touch costs one fault in place of 512.
void* system_allocate(int64_t bytes) {
  constexpr int64_t kLargePage = 2 << 20;
  if (bytes < 2 * kLargePage) return std::aligned_alloc(64, static_cast<size_t>(bytes));
  const auto size = static_cast<size_t>((bytes + kLargePage - 1) / kLargePage * kLargePage);
  void* const p = std::aligned_alloc(kLargePage, size);
#ifdef MADV_HUGEPAGE
  if (p) madvise(p, size, MADV_HUGEPAGE);
#endif
  return p;
}

// Never destroyed: tensors with static lifetime may be freed after it would have been.
CachingAllocator& host() {
  static auto* allocator = new CachingAllocator("", system_allocate, [](void* p) { std::free(p); });
  return *allocator;
}

thread_local AllocationBudget* budget = nullptr;  // the innermost

}  // namespace

CachingAllocator::CachingAllocator(std::string where, Allocate allocate, Release release)
    : where_(std::move(where)), allocate_(std::move(allocate)), release_(std::move(release)) {}

CachingAllocator::~CachingAllocator() { release_cached(); }

void CachingAllocator::release_cached() noexcept {
  for (auto& [size, list] : blocks_)
    for (void* p : list) release_(p);
  blocks_.clear();
  stats_.cached_bytes = 0;
}

void* CachingAllocator::allocate(int64_t bytes) {
  const int64_t size = size_class(bytes);
  const std::lock_guard lock(mutex_);
  void* p = nullptr;
  if (auto it = blocks_.find(size); it != blocks_.end() && !it->second.empty()) {
    p = it->second.back();
    it->second.pop_back();
    stats_.cached_bytes -= size;
  } else {
    p = allocate_(size);
    if (!p) {
      release_cached();
      p = allocate_(size);
    }
    check(p != nullptr, "out of memory{}: {} bytes requested, {} in use",
          where_.empty() ? "" : " (" + where_ + ")", size, stats_.active_bytes);
  }
  stats_.active_bytes += size;
  stats_.peak_bytes = std::max(stats_.peak_bytes, stats_.active_bytes);
  return p;
}

void CachingAllocator::free(void* p, int64_t bytes) noexcept {
  if (!p) return;
  const int64_t size = size_class(bytes);
  const std::lock_guard lock(mutex_);
  stats_.active_bytes -= size;
#if defined(__SANITIZE_ADDRESS__)
  release_(p);  // a cached block would hide a use after free
#else
  blocks_[size].push_back(p);
  stats_.cached_bytes += size;
#endif
}

AllocatorStats CachingAllocator::stats() {
  const std::lock_guard lock(mutex_);
  return stats_;
}

void CachingAllocator::reset_peak() {
  const std::lock_guard lock(mutex_);
  stats_.peak_bytes = stats_.active_bytes;
}

AllocationBudget::AllocationBudget(int64_t bytes, std::string message)
    : left_(bytes), message_(std::move(message)), outer_(budget) {
  budget = this;
}
AllocationBudget::~AllocationBudget() { budget = outer_; }

void AllocationBudget::take(int64_t bytes) {
  check(bytes <= left_, "{}", message_);
  if (outer_ != nullptr) outer_->take(bytes);
  left_ -= bytes;
}

void AllocationBudget::give_back(int64_t bytes) noexcept {
  left_ += bytes;
  if (outer_ != nullptr) outer_->give_back(bytes);
}

void* host_allocate(int64_t bytes) {
  if (budget != nullptr) budget->take(size_class(bytes));
  return host().allocate(bytes);
}
void host_free(void* p, int64_t bytes) noexcept {
  if (!p) return;
  if (budget != nullptr) budget->give_back(size_class(bytes));
  host().free(p, bytes);
}
AllocatorStats host_stats() { return host().stats(); }
void host_reset_peak() { host().reset_peak(); }

}  // namespace sextant
