// SPDX-License-Identifier: Apache-2.0
// Threads in place of processes: what several processes compute, in one test.
#pragma once

#include <barrier>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "core/communicator.h"
#include "core/error.h"
#include "core/parallel.h"

namespace sextant::test {

// What the threads share. Sums are taken in the order of the ranks.
struct ThreadGroup {
  explicit ThreadGroup(int n) : barrier(n), given(static_cast<size_t>(n)) {}
  std::barrier<> barrier;
  std::vector<const void*> given;
};

class ThreadCommunicator final : public Communicator {
 public:
  ThreadCommunicator(ThreadGroup& group, int rank, ThreadGroup* second = nullptr)
      : group_(group), rank_(rank) {
    if (second != nullptr) second_ = std::make_unique<ThreadCommunicator>(*second, rank);
  }
  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(group_.given.size()); }
  int64_t sums = 0;  // how many there were

  void sum(void* values, int64_t n, DType dtype, Device device) override {
    check(device == Device::kCpu, "a sum in device memory");
    ++sums;
    const auto add = [&](auto* v) {
      using T = std::remove_pointer_t<decltype(v)>;
      group_.given[static_cast<size_t>(rank_)] = v;
      group_.barrier.arrive_and_wait();
      std::vector<T> all(static_cast<size_t>(n));
      for (const void* g : group_.given)
        for (int64_t i = 0; i < n; ++i) all[static_cast<size_t>(i)] += static_cast<const T*>(g)[i];
      group_.barrier.arrive_and_wait();
      std::copy(all.begin(), all.end(), v);
    };
    dtype == DType::kF64 ? add(static_cast<double*>(values)) : add(static_cast<float*>(values));
  }
  void broadcast(void* bytes, int64_t n, Device device) override {
    check(device == Device::kCpu, "a broadcast in device memory");
    group_.given[static_cast<size_t>(rank_)] = bytes;
    group_.barrier.arrive_and_wait();
    if (rank_ > 0) std::memcpy(bytes, group_.given[0], static_cast<size_t>(n));
    group_.barrier.arrive_and_wait();
  }
  std::vector<std::string> gather(const std::string& bytes) override {
    group_.given[static_cast<size_t>(rank_)] = &bytes;
    group_.barrier.arrive_and_wait();
    std::vector<std::string> all;
    for (const void* g : group_.given) all.push_back(*static_cast<const std::string*>(g));
    group_.barrier.arrive_and_wait();
    return all;
  }
  Communicator* second() override { return second_.get(); }

 private:
  ThreadGroup& group_;
  int rank_;
  std::unique_ptr<ThreadCommunicator> second_;
};

// Calls work(communicator) on n threads, each with its communicator as processes(). Rethrows the
// first error by rank; work that fails on some threads alone would leave the others waiting.
inline void on_processes(int n, const std::function<void(ThreadCommunicator&)>& work) {
  ThreadGroup group(n), second(n);
  std::vector<std::exception_ptr> errors(static_cast<size_t>(n));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < n; ++rank)
    threads.emplace_back([&, rank] {
      ThreadCommunicator all(group, rank, &second);
      const ProcessesScope scope(&all);
      const ThreadLimit alone(1);  // a process has a pool of its own, these threads would share one
      try {
        work(all);
      } catch (...) {
        errors[static_cast<size_t>(rank)] = std::current_exception();
      }
    });
  for (std::thread& t : threads) t.join();
  for (const std::exception_ptr& e : errors)
    if (e) std::rethrow_exception(e);
}

}  // namespace sextant::test
