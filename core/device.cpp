// SPDX-License-Identifier: Apache-2.0
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
thread_local RecordedWork* current_recording = nullptr;

CachingAllocator& allocator(const std::unique_ptr<CachingAllocator>& a) {
  accelerator();  // throws when none is set
  return *a;
}

}  // namespace

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

void* device_allocate(int64_t bytes) {
  if (RecordedWork* r = current_recording) {
    const auto held = r->held_.find(bytes);
    if (held != r->held_.end() && !held->second.empty()) {
      void* p = held->second.back();
      held->second.pop_back();
      return p;
    }
  }
  return allocator(state().memory).allocate(bytes);
}
// A block that recorded work has used must not be handed out again: each replay writes to it.
void device_free(void* p, int64_t bytes) noexcept {
  if (!p) return;
  if (current_recording)
    current_recording->held_[bytes].push_back(p);
  else
    state().memory->free(p, bytes);
}
int64_t device_free_bytes() {
  const int64_t free = accelerator().free_bytes();
  return free > 0 ? free + device_stats().cached_bytes : 0;
}
AllocatorStats device_stats() { return allocator(state().memory).stats(); }
void device_reset_peak() { allocator(state().memory).reset_peak(); }
void* pinned_allocate(int64_t bytes) { return allocator(state().pinned).allocate(bytes); }
void pinned_free(void* p, int64_t bytes) noexcept {
  if (p) state().pinned->free(p, bytes);
}

bool Accelerator::begin_recording(Stream) { return false; }
void* Accelerator::end_recording(Stream) { return nullptr; }
void Accelerator::launch_recording(void*, Stream) {
  fail("{}: has no recordings to launch", name());
}
void Accelerator::destroy_recording(void*) noexcept {}

RecordedWork::RecordedWork(std::function<void()> work, std::function<void()> undo)
    : work_(std::move(work)), undo_(std::move(undo)) {}

RecordedWork::~RecordedWork() {
  if (recording_) accelerator().destroy_recording(recording_);
  for (const auto& [bytes, blocks] : held_)
    for (void* p : blocks) device_free(p, bytes);
}

// The first run is not recorded: it may build plans and fill caches, which cannot be recorded.
void RecordedWork::run() {
  if (++runs_ == 2) try_to_record();
  if (recording_)
    accelerator().launch_recording(recording_, compute_stream());
  else
    work_();
}

void RecordedWork::try_to_record() {
  try {
    record();
  } catch (const Error& e) {
    if (!undo_) throw;
    undo_();
    refusal_ = e.what();
  }
}

void RecordedWork::record() {
  check(current_recording == nullptr, "recorded work: recordings cannot be nested");
  Accelerator& a = accelerator();
  const Stream stream = a.make_stream();  // the default stream cannot be recorded
  const std::unique_ptr<void, std::function<void(void*)>> destroyed(
      &a, [&](void*) { a.destroy_stream(stream); });
  if (!a.begin_recording(stream)) return;
  const StreamScope scope(stream);
  current_recording = this;
  try {
    work_();
  } catch (...) {
    current_recording = nullptr;
    try {
      a.destroy_recording(a.end_recording(stream));
    } catch (const Error&) {  // the work's own error is the one to report
    }
    throw;
  }
  current_recording = nullptr;
  recording_ = a.end_recording(stream);
}

}  // namespace sextant
