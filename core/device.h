// SPDX-License-Identifier: Apache-2.0
// Devices: where a tensor's memory lies, and what core needs from an accelerator.
//
// core does not depend on CUDA. The owner of an accelerator (kernels/cuda/runtime.h, or the host
// SIMT runner in the tests) registers it once, before the first tensor on it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/allocator.h"
#include "core/dtype.h"
#include "core/enum_names.h"
#include "core/stream.h"

namespace sextant {

enum class Device : uint8_t { kCpu, kCuda };
constexpr auto enum_names(Device) {
  return make_enum_names<Device>("device", {{Device::kCpu, "cpu"}, {Device::kCuda, "cuda"}});
}

// Memory and work of one accelerator. Functions that take a Stream are ordered by it. They throw
// Error when the device reports a failure, except allocate*(), which return null.
class Accelerator {
 public:
  virtual ~Accelerator() = default;
  // "NVIDIA H200"
  virtual std::string name() const = 0;
  // Bytes that can still be allocated; 0 if unknown.
  virtual int64_t free_bytes() { return 0; }
  virtual void* allocate(int64_t bytes) = 0;  // aligned to 256
  virtual void release(void* p) noexcept = 0;
  // Host memory that the device can read and write directly.
  virtual void* allocate_pinned(int64_t bytes) = 0;
  virtual void release_pinned(void* p) noexcept = 0;
  // `from` may be reused on return, unless it is pinned.
  virtual void upload(void* to, const void* from, int64_t bytes, Stream stream) = 0;
  // Returns when `to` holds the bytes, unless it is pinned.
  virtual void download(void* to, const void* from, int64_t bytes, Stream stream) = 0;
  virtual void copy(void* to, const void* from, int64_t bytes, Stream stream) = 0;
  virtual void fill_zero(void* p, int64_t bytes, Stream stream) = 0;
  // into += values, of type F32, F16 or BF16; accumulates gradients.
  virtual void add_into(void* into, const void* values, int64_t n, DType dtype, Stream stream) = 0;
  virtual void synchronize(Stream stream) = 0;
  virtual Stream make_stream() = 0;
  virtual void destroy_stream(Stream stream) noexcept = 0;
  // Work submitted to `stream` from now on starts after the work submitted to `before` so far.
  virtual void wait(Stream stream, Stream before) = 0;

  // Recording, for RecordedWork below. After begin_recording(), work submitted to `stream` is
  // recorded instead of executed. Returns false and changes nothing where the device or `stream`
  // does not support recording.
  virtual bool begin_recording(Stream stream);
  // Ends the recording and returns a handle for launch_recording() and destroy_recording(). Throws
  // Error when the work cannot be recorded (because it waited for the device).
  virtual void* end_recording(Stream stream);
  // Executes the recorded work, ordered by `stream`.
  virtual void launch_recording(void* recording, Stream stream);
  virtual void destroy_recording(void* recording) noexcept;
};

// Replaces the accelerator; null removes it. No tensor of the old one may be alive.
void set_accelerator(std::unique_ptr<Accelerator> accelerator);
bool has_accelerator();
// Throws Error when none is set.
Accelerator& accelerator();

// The stream of this thread's work on the device: the default stream outside any StreamScope.
Stream compute_stream();
class StreamScope {
 public:
  explicit StreamScope(Stream stream);
  ~StreamScope();
  StreamScope(const StreamScope&) = delete;
  StreamScope& operator=(const StreamScope&) = delete;

 private:
  Stream before_;
};

// Cached like host memory (core/allocator.h). A freed block can be reused at once, so all work on
// it must be ordered by one stream or by Accelerator::wait().
void* device_allocate(int64_t bytes);
void device_free(void* p, int64_t bytes) noexcept;
AllocatorStats device_stats();
// Of the device's memory, what no tensor holds; 0 if unknown.
int64_t device_free_bytes();
void device_reset_peak();
void* pinned_allocate(int64_t bytes);
void pinned_free(void* p, int64_t bytes) noexcept;

// Device memory for the duration of a scope: the workspace of a kernel.
class Workspace {
 public:
  explicit Workspace(int64_t bytes)
      : bytes_(bytes), p_(bytes > 0 ? device_allocate(bytes) : nullptr) {}
  ~Workspace() { device_free(p_, bytes_); }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  void* data() const { return p_; }

 private:
  int64_t bytes_;
  void* p_;
};

// Work that is the same each time, launched as one unit (a CUDA graph): the cost of a short kernel
// is mostly its launch.
//
//   RecordedWork step([&] { engine_steps(); });
//   step.run();   // the first call runs the work directly, the second records it
//
// The work must launch the same kernels on the same memory each time, on compute_stream(). It must
// not wait for the device or copy from or to host memory. Tensors that exist before and after it
// must outlive this object. Memory that the work itself allocates and frees stays with the
// recording. Where recording is not supported, each run executes the work directly, with the same
// result.
class RecordedWork {
 public:
  // `undo` takes back what the work did to the host's memory when recording it failed (work that
  // waits for the device cannot be recorded): then it is done as it is, from that run on. Without
  // `undo` run() throws.
  explicit RecordedWork(std::function<void()> work, std::function<void()> undo = {});
  ~RecordedWork();
  RecordedWork(const RecordedWork&) = delete;
  RecordedWork& operator=(const RecordedWork&) = delete;
  void run();
  // Whether run() replays a recording.
  bool recorded() const { return recording_ != nullptr; }
  // Why it could not be recorded; "" as long as nothing failed.
  const std::string& refusal() const { return refusal_; }

 private:
  friend void* device_allocate(int64_t bytes);
  friend void device_free(void* p, int64_t bytes) noexcept;
  void try_to_record();
  void record();

  std::function<void()> work_, undo_;
  void* recording_ = nullptr;
  std::string refusal_;
  int64_t runs_ = 0;
  std::map<int64_t, std::vector<void*>> held_;  // blocks of the recording, by size
};

}  // namespace sextant
