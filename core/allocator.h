// SPDX-License-Identifier: Apache-2.0
// Memory for tensors.
//
// A training step requests the same few hundred blocks again and again, some of them 25 MB large.
// Returning them to the system each time would cost a page fault per 4 KiB on the host, and a wait
// for the whole device on a GPU. Freed blocks are therefore kept in a cache by size class (four
// classes per power of two) and reused.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace sextant {

struct AllocatorStats {
  int64_t active_bytes = 0;  // in live tensors
  int64_t peak_bytes = 0;    // the largest active_bytes since the last reset_peak()
  int64_t cached_bytes = 0;  // freed and kept
};

// Thread-safe.
class CachingAllocator {
 public:
  using Allocate = std::function<void*(int64_t bytes)>;  // null when memory runs out
  using Release = std::function<void(void*)>;

  // `where` names the memory in messages; empty for the host's.
  CachingAllocator(std::string where, Allocate allocate, Release release);
  ~CachingAllocator();
  CachingAllocator(const CachingAllocator&) = delete;
  CachingAllocator& operator=(const CachingAllocator&) = delete;

  // Contents undefined. When memory runs out, the cache is released and the allocation is tried
  // once more. Throws Error when that fails too.
  void* allocate(int64_t bytes);
  void free(void* p, int64_t bytes) noexcept;
  AllocatorStats stats();
  void reset_peak();

 private:
  void release_cached() noexcept;

  std::string where_;
  Allocate allocate_;
  Release release_;
  std::mutex mutex_;
  std::map<int64_t, std::vector<void*>> blocks_;
  AllocatorStats stats_;
};

// Bounds what this thread takes of host memory while the object lives, less what it gives back
// meanwhile. For work that a file from outside asks for: the budget follows from the size of the
// file, so that a few bytes cannot ask for gigabytes. `message` is what the Error says then.
class AllocationBudget {
 public:
  AllocationBudget(int64_t bytes, std::string message);
  ~AllocationBudget();
  AllocationBudget(const AllocationBudget&) = delete;
  AllocationBudget& operator=(const AllocationBudget&) = delete;

  void take(int64_t bytes);
  void give_back(int64_t bytes) noexcept;

 private:
  int64_t left_;
  std::string message_;
  AllocationBudget* outer_;
};

// Host memory from a CachingAllocator, 64-byte aligned.
void* host_allocate(int64_t bytes);
void host_free(void* p, int64_t bytes) noexcept;
AllocatorStats host_stats();
void host_reset_peak();

}  // namespace sextant
