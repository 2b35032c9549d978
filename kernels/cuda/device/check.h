// SPDX-License-Identifier: Apache-2.0
// Host-side calls to CUDA's libraries, checked. For files compiled by the host compiler only.
#pragma once

#include <cuda_runtime_api.h>

#include <utility>

#include "core/error.h"
#include "core/stream.h"

// Throws Error "<what>: <text> (<cudaError name>)" unless a CUDA runtime call succeeds.
#define SEXTANT_CUDA(call, what)                                                              \
  do {                                                                                        \
    const cudaError_t sextant_status_ = (call);                                               \
    ::sextant::check(sextant_status_ == cudaSuccess, "{}: {} ({})", what,                     \
                     cudaGetErrorString(sextant_status_), cudaGetErrorName(sextant_status_)); \
  } while (false)

namespace sextant::kernels::cuda {

inline cudaStream_t native(Stream stream) { return static_cast<cudaStream_t>(stream.handle); }

// An event; with `timing` it can be asked for the time between it and another.
class Event {
 public:
  explicit Event(bool timing = false) {
    SEXTANT_CUDA(
        cudaEventCreateWithFlags(&event_, timing ? cudaEventDefault : cudaEventDisableTiming),
        "event");
  }
  ~Event() { static_cast<void>(cudaEventDestroy(event_)); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  cudaEvent_t get() const { return event_; }
  void record(Stream stream) const {
    SEXTANT_CUDA(cudaEventRecord(event_, native(stream)), "event");
  }
  // Milliseconds from `start` to this. Waits for both.
  float since(const Event& start) const {
    float ms = 0;
    SEXTANT_CUDA(cudaEventSynchronize(event_), "event");
    SEXTANT_CUDA(cudaEventElapsedTime(&ms, start.event_, event_), "event");
    return ms;
  }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace sextant::kernels::cuda
