// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/conv/scratch.h"

#include <sys/mman.h>

#include <algorithm>
#include <new>

namespace sextant::kernels::cpu {
namespace {

std::byte* at_least(Aligned<std::byte>& block, int64_t bytes) {
  if (block.count() < bytes || !block.data()) {
    block = Aligned<std::byte>();  // freed before the next is taken
    block = Aligned<std::byte>(bytes);
  }
  return block.data();
}

}  // namespace

void* allocate_pages(int64_t bytes) {
  constexpr int64_t kLargePage = 2 << 20;
  const bool large = bytes >= kLargePage;
  const int64_t unit = large ? kLargePage : 64;
  const auto size = static_cast<size_t>((std::max<int64_t>(bytes, 1) + unit - 1) / unit * unit);
  void* const p = std::aligned_alloc(static_cast<size_t>(unit), size);
  if (!p) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
  if (large) madvise(p, size, MADV_HUGEPAGE);
#endif
  return p;
}

std::byte* job_scratch(int64_t bytes) {
  thread_local Aligned<std::byte> block;
  return at_least(block, bytes);
}

std::byte* shared_scratch(int64_t bytes) {
  thread_local Aligned<std::byte> block;
  return at_least(block, bytes);
}

}  // namespace sextant::kernels::cpu
