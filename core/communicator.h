// SPDX-License-Identifier: Apache-2.0
// The processes of one training, each of which has a part of every batch.
//
// Every process makes the same calls in the same order; each returns when this process's part is
// done. A process that ends early, or makes another call, is noticed by core/distributed/watch.h.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/device.h"

namespace sextant {

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;  // from 0; process 0 prints and writes files
  virtual int size() const = 0;
  // values[0..n) become their sums over all processes, with the same bits everywhere. F32 or F64,
  // on a device F16 too. On a device the work is ordered by compute_stream(), and nothing waits.
  virtual void sum(void* values, int64_t n, DType dtype, Device device) = 0;
  // The bytes of process 0.
  virtual void broadcast(void* bytes, int64_t n, Device device) = 0;
  // Every process's bytes, by rank, on every process.
  virtual std::vector<std::string> gather(const std::string& bytes) = 0;
  // The same calls from another thread, at the same time as those of this object and independent
  // of them. Null where the implementation cannot.
  virtual Communicator* second() { return nullptr; }
};

// The processes, in a step for which this one has no images: it adds zeros to every sum.
class WithoutImages final : public Communicator {
 public:
  explicit WithoutImages(Communicator& all) : all_(all) {}
  int rank() const override { return all_.rank(); }
  int size() const override { return all_.size(); }
  void sum(void* values, int64_t n, DType dtype, Device device) override;
  void broadcast(void* bytes, int64_t n, Device device) override {
    all_.broadcast(bytes, n, device);
  }
  std::vector<std::string> gather(const std::string& bytes) override { return all_.gather(bytes); }

 private:
  Communicator& all_;
};

// Those of this thread; null: it trains alone.
Communicator* processes();
class ProcessesScope {
 public:
  explicit ProcessesScope(Communicator* communicator);
  ~ProcessesScope();
  ProcessesScope(const ProcessesScope&) = delete;
  ProcessesScope& operator=(const ProcessesScope&) = delete;

 private:
  Communicator* before_;
};
// Whether this process prints and writes files.
inline bool is_first_process() { return processes() == nullptr || processes()->rank() == 0; }

// What `f` returns on process 0, which alone calls it: on every process.
bool from_first(const std::function<bool()>& f);
std::string text_from_first(const std::function<std::string()>& f);

// [begin, end) of `n` things for one process of several: the first ones have one more where they
// cannot be shared out equally.
struct Share {
  int64_t begin = 0, end = 0;
  int64_t size() const { return end - begin; }
};
Share share_of(int64_t n, int rank, int size);

}  // namespace sextant
