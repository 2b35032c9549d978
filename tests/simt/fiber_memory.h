// SPDX-License-Identifier: Apache-2.0
// Memory of the SIMT runner: stacks for the fibers and memory for the blocks, both announced to
// AddressSanitizer.
#pragma once

#include <boost/context/stack_context.hpp>
#include <cstddef>
#include <cstring>
#include <memory>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace simt {

constexpr size_t kStackBytes = 64 * 1024;
constexpr int kGarbage = 0xFF;

// Around each change of stack: before it, with where to keep the present stack's shadow (null when
// it ends) and the next stack; after it, with what was kept, to learn the stack left behind.
inline void start_switch(void** fake_stack, const void* bottom, size_t size) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(fake_stack, bottom, size);
#else
  static_cast<void>(fake_stack), static_cast<void>(bottom), static_cast<void>(size);
#endif
}
inline void finish_switch(void* fake_stack, const void** bottom, size_t* size) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_stack, bottom, size);
#else
  static_cast<void>(fake_stack), static_cast<void>(bottom), static_cast<void>(size);
#endif
}

// Memory of exactly `bytes` bytes, so that ASan sees the first byte past it.
class Memory {
 public:
  Memory(size_t bytes, size_t alignment)
      : data_(::operator new (bytes, std::align_val_t{alignment}),
              Free{std::align_val_t{alignment}}),
        bytes_(bytes) {
    std::memset(data_.get(), kGarbage, bytes);
  }
  void* get() const { return data_.get(); }
  size_t bytes() const { return bytes_; }

 private:
  struct Free {
    std::align_val_t alignment;
    void operator()(void* p) const { ::operator delete(p, alignment); }
  };
  std::unique_ptr<void, Free> data_;
  size_t bytes_;
};

// Hands Boost the stack that a Thread owns.
struct OwnedStack {
  char* bottom;
  boost::context::stack_context allocate() {
    boost::context::stack_context context;
    context.size = kStackBytes;
    context.sp = bottom + kStackBytes;
    return context;
  }
  void deallocate(boost::context::stack_context&) noexcept {}
};

}  // namespace simt
