// SPDX-License-Identifier: Apache-2.0
// Named ranges of work for a profiler (NVTX; see docs/profiling.md).
//
//   const ProfileRange range("backbone.stem");
//
// Without hooks a range costs one read of a pointer. kernels/cuda/runtime.h sets the hooks.
#pragma once

#include <atomic>

namespace sextant {

struct ProfileHooks {
  void (*begin)(const char* name) = nullptr;
  void (*end)() = nullptr;
};

namespace profile {
inline std::atomic<const ProfileHooks*> hooks{nullptr};
}

// `hooks` must stay alive; null removes them. No range may be open.
inline void set_profile_hooks(const ProfileHooks* hooks) { profile::hooks = hooks; }

// From construction to the end of the scope, on this thread; ranges nest. `name` is read at once.
class ProfileRange {
 public:
  explicit ProfileRange(const char* name) : hooks_(profile::hooks.load(std::memory_order_relaxed)) {
    if (hooks_) hooks_->begin(name);
  }
  ~ProfileRange() {
    if (hooks_) hooks_->end();
  }
  ProfileRange(const ProfileRange&) = delete;
  ProfileRange& operator=(const ProfileRange&) = delete;

 private:
  const ProfileHooks* hooks_;
};

}  // namespace sextant
