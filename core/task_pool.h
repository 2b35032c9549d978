// SPDX-License-Identifier: Apache-2.0
// Work beside the main thread's, on threads of its own: reading and writing of files. Loops that are
// to share the processors use core/parallel.h.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace sextant {

// Tasks start in the order they were submitted. The loops in a task run on its own thread alone.
class TaskPool {
 public:
  explicit TaskPool(int threads);
  // Finishes what was submitted.
  ~TaskPool();
  TaskPool(const TaskPool&) = delete;
  TaskPool& operator=(const TaskPool&) = delete;

  // The result, or what the task threw, is in the future.
  template <class Task>
  auto submit(Task task) {
    using Result = std::invoke_result_t<Task&>;
    auto packaged = std::make_shared<std::packaged_task<Result()>>(std::move(task));
    auto future = packaged->get_future();
    push([packaged] { (*packaged)(); });
    return future;
  }

 private:
  void push(std::function<void()> task);
  void work();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> tasks_;
  bool closed_ = false;
  std::vector<std::thread> threads_;
};

// Calls work(i) for i of [0, count) on so many threads, and take(i, result) on this one, in order. At
// most two results more than there are threads are held at a time. Rethrows what either throws.
template <class Work, class Take>
void run_in_order(int64_t count, int threads, const Work& work, const Take& take) {
  using Result = std::invoke_result_t<const Work&, int64_t>;
  std::deque<std::future<Result>> coming;
  TaskPool pool(threads);
  int64_t next = 0;
  for (int64_t i = 0; i < count; ++i) {
    for (; next < count && next < i + threads + 2; ++next)
      coming.push_back(pool.submit([&work, next] { return work(next); }));
    Result result = coming.front().get();
    coming.pop_front();
    take(i, std::move(result));
  }
}

}  // namespace sextant
