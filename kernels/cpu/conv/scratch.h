// SPDX-License-Identifier: Apache-2.0
// Memory that the convolutions' jobs work in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "core/allocator.h"

namespace sextant::kernels::cpu {

// `count` values aligned to 64 bytes, contents undefined, from the allocator of tensors: training
// packs its weights anew in each step.
template <class T>
class Aligned {
 public:
  Aligned() = default;
  explicit Aligned(int64_t count)
      : data_(static_cast<T*>(host_allocate(count * static_cast<int64_t>(sizeof(T))))),
        count_(count) {}
  Aligned(Aligned&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), count_(std::exchange(other.count_, 0)) {}
  Aligned& operator=(Aligned&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(count_, other.count_);
    return *this;
  }
  ~Aligned() { host_free(data_, bytes()); }
  T* data() const { return data_; }
  int64_t count() const { return count_; }
  int64_t bytes() const { return count_ * static_cast<int64_t>(sizeof(T)); }

 private:
  T* data_ = nullptr;
  int64_t count_ = 0;
};

// This thread's scratch, kept from call to call: at least `bytes`, aligned to 64. What a job asks
// for is its own until it asks again; what the caller of a parallel loop shares with its jobs comes
// from shared_scratch().
std::byte* job_scratch(int64_t bytes);
std::byte* shared_scratch(int64_t bytes);

template <class T>
T* job_scratch_of(int64_t count) {
  return reinterpret_cast<T*>(job_scratch(count * static_cast<int64_t>(sizeof(T))));
}
template <class T>
T* shared_scratch_of(int64_t count) {
  return reinterpret_cast<T*>(shared_scratch(count * static_cast<int64_t>(sizeof(T))));
}

}  // namespace sextant::kernels::cpu
