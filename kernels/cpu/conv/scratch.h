// SPDX-License-Identifier: Apache-2.0
// Memory that the convolutions' jobs work in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

namespace sextant::kernels::cpu {

// Aligned to 64 bytes; large blocks lie in large pages where the system has them, since weights that
// are read once in a layer meet a new small page every 64 steps. Freed by std::free().
void* allocate_pages(int64_t bytes);

// `count` values aligned to 64 bytes, contents undefined.
template <class T>
class Aligned {
 public:
  Aligned() = default;
  explicit Aligned(int64_t count) : count_(count) {
    data_.reset(static_cast<T*>(allocate_pages(count * static_cast<int64_t>(sizeof(T)))));
  }
  T* data() const { return data_.get(); }
  int64_t count() const { return count_; }
  int64_t bytes() const { return count_ * static_cast<int64_t>(sizeof(T)); }

 private:
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
  std::unique_ptr<T, Free> data_;
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
