// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/conv/scratch.h"

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

std::byte* job_scratch(int64_t bytes) {
  thread_local Aligned<std::byte> block;
  return at_least(block, bytes);
}

std::byte* shared_scratch(int64_t bytes) {
  thread_local Aligned<std::byte> block;
  return at_least(block, bytes);
}

}  // namespace sextant::kernels::cpu
