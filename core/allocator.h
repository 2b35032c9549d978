// Host memory for tensors.
//
// A training step asks for the same few hundred blocks, some of 25 MB, again and again; handing
// them back to the system each time would cost a page fault per 4 KiB. So freed blocks are kept in
// a cache by size class (four classes to each power of two) and given out again.
#pragma once

#include <cstdint>

namespace sextant {

struct AllocatorStats {
  int64_t active_bytes = 0;  // in live tensors
  int64_t peak_bytes = 0;    // the largest active_bytes since the last reset_peak()
  int64_t cached_bytes = 0;  // freed and kept
};

// 64-byte aligned; contents undefined. Thread-safe. Throws Error when memory runs out.
void* host_allocate(int64_t bytes);
void host_free(void* p, int64_t bytes) noexcept;
AllocatorStats host_stats();
void host_reset_peak();

}  // namespace sextant
