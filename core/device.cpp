#include "core/device.h"

#include "core/error.h"

namespace sextant {
namespace {

// Never destroyed: tensors with static lifetime may be freed after it would have been.
struct State {
  std::unique_ptr<Accelerator> accelerator;
  std::unique_ptr<CachingAllocator> memory, pinned;
};
State& state() {
  static State* s = new State;
  return *s;
}

thread_local Stream current_stream;

CachingAllocator& allocator(const std::unique_ptr<CachingAllocator>& a) {
  accelerator();  // throws where there is none
  return *a;
}

}  // namespace

std::string_view name_of(Device d) { return d == Device::kCpu ? "cpu" : "cuda"; }

Device device_from_name(std::string_view name) {
  if (name == "cpu") return Device::kCpu;
  if (name == "cuda") return Device::kCuda;
  fail("unknown device '{}', must be cpu or cuda", name);
}

void set_accelerator(std::unique_ptr<Accelerator> accelerator) {
  State& s = state();
  if (s.accelerator) {
    s.memory.reset();
    s.pinned.reset();
  }
  s.accelerator = std::move(accelerator);
  Accelerator* a = s.accelerator.get();
  if (!a) return;
  s.memory = std::make_unique<CachingAllocator>(
      a->name(), [a](int64_t bytes) { return a->allocate(bytes); },
      [a](void* p) { a->release(p); });
  s.pinned = std::make_unique<CachingAllocator>(
      "pinned memory", [a](int64_t bytes) { return a->allocate_pinned(bytes); },
      [a](void* p) { a->release_pinned(p); });
}

bool has_accelerator() { return state().accelerator != nullptr; }

Accelerator& accelerator() {
  check(has_accelerator(), "no CUDA device is in use");
  return *state().accelerator;
}

Stream compute_stream() { return current_stream; }
StreamScope::StreamScope(Stream stream) : before_(current_stream) { current_stream = stream; }
StreamScope::~StreamScope() { current_stream = before_; }

void* device_allocate(int64_t bytes) { return allocator(state().memory).allocate(bytes); }
void device_free(void* p, int64_t bytes) noexcept {
  if (p) state().memory->free(p, bytes);
}
AllocatorStats device_stats() { return allocator(state().memory).stats(); }
void device_reset_peak() { allocator(state().memory).reset_peak(); }
void* pinned_allocate(int64_t bytes) { return allocator(state().pinned).allocate(bytes); }
void pinned_free(void* p, int64_t bytes) noexcept {
  if (p) state().pinned->free(p, bytes);
}

}  // namespace sextant
