#include "core/allocator.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <map>
#include <mutex>
#include <vector>

#include "core/error.h"

namespace sextant {
namespace {

struct Cache {
  std::mutex mutex;
  std::map<int64_t, std::vector<void*>> blocks;
  AllocatorStats stats;
};

// Never destroyed: tensors with static lifetime may be freed after it would have been.
Cache& cache() {
  static Cache* c = new Cache;
  return *c;
}

int64_t size_class(int64_t bytes) {
  bytes = std::max<int64_t>(bytes, 64);
  const int64_t quarter =
      std::max<int64_t>(64, static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(bytes))) / 4);
  return (bytes + quarter - 1) / quarter * quarter;
}

void release(Cache& c) noexcept {
  for (auto& [size, list] : c.blocks)
    for (void* p : list) std::free(p);
  c.blocks.clear();
  c.stats.cached_bytes = 0;
}

}  // namespace

void* host_allocate(int64_t bytes) {
  const int64_t size = size_class(bytes);
  Cache& c = cache();
  const std::lock_guard lock(c.mutex);
  void* p = nullptr;
  if (auto it = c.blocks.find(size); it != c.blocks.end() && !it->second.empty()) {
    p = it->second.back();
    it->second.pop_back();
    c.stats.cached_bytes -= size;
  } else {
    p = std::aligned_alloc(64, static_cast<size_t>(size));
    if (!p) {
      release(c);
      p = std::aligned_alloc(64, static_cast<size_t>(size));
    }
    check(p != nullptr, "out of memory: {} bytes asked for, {} in use", size, c.stats.active_bytes);
  }
  c.stats.active_bytes += size;
  c.stats.peak_bytes = std::max(c.stats.peak_bytes, c.stats.active_bytes);
  return p;
}

void host_free(void* p, int64_t bytes) noexcept {
  if (!p) return;
  const int64_t size = size_class(bytes);
  Cache& c = cache();
  const std::lock_guard lock(c.mutex);
  c.stats.active_bytes -= size;
#if defined(__SANITIZE_ADDRESS__)
  std::free(p);  // a cached block would hide a use after free
#else
  c.blocks[size].push_back(p);
  c.stats.cached_bytes += size;
#endif
}

AllocatorStats host_stats() {
  Cache& c = cache();
  const std::lock_guard lock(c.mutex);
  return c.stats;
}

void host_reset_peak() {
  Cache& c = cache();
  const std::lock_guard lock(c.mutex);
  c.stats.peak_bytes = c.stats.active_bytes;
}

}  // namespace sextant
