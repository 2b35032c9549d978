// SPDX-License-Identifier: Apache-2.0
// Loops over several threads. One pool serves the whole program; a thread that finds it in use, and
// a loop inside a loop, run on by themselves.
#pragma once

#include <algorithm>
#include <cstdint>

namespace sextant {

// Threads that a loop of this thread may use, itself included: $OMP_NUM_THREADS, else the processors
// that this process may run on; at most what a ThreadLimit of this thread allows.
int num_threads();
// From the next loop on; at least 1.
void set_num_threads(int threads);

// While it lives, loops that this thread starts use at most so many threads; 0: no limit of its own.
class ThreadLimit {
 public:
  explicit ThreadLimit(int threads);
  ~ThreadLimit();
  ThreadLimit(const ThreadLimit&) = delete;
  ThreadLimit& operator=(const ThreadLimit&) = delete;

 private:
  int before_;
};

namespace detail {
using Job = void (*)(const void* body, int64_t index);
void run_jobs(int64_t jobs, Job job, const void* body);
bool inside_job();
}  // namespace detail

// Calls body(i) for each i of [0, jobs), each once, on whichever thread is free: a thread that the
// system holds up costs no more than the job it is at. `body` must not throw. A call costs about a
// microsecond while the pool is awake, so a job should take some ten of them.
template <class Body>
void parallel_jobs(int64_t jobs, const Body& body) {
  if (jobs <= 1 || num_threads() == 1 || detail::inside_job()) {
    for (int64_t i = 0; i < jobs; ++i) body(i);
    return;
  }
  detail::run_jobs(
      jobs, [](const void* b, int64_t i) { (*static_cast<const Body*>(b))(i); }, &body);
}

// Calls body(begin, end) on disjoint chunks that cover [0, n), on several threads when n > grain.
// The split depends on n, grain and the number of threads. A body whose result must not depend on
// the split must not accumulate across its chunk. `body` must not throw.
template <class Body>
void parallel_for(int64_t n, int64_t grain, const Body& body) {
  if (n <= 0) return;
  grain = std::max<int64_t>(grain, 1);
  const int64_t threads = num_threads();
  if (threads == 1 || n <= grain || detail::inside_job()) return body(int64_t{0}, n);
  // More chunks than threads: one that is held up leaves its share to the others.
  const int64_t chunks = std::min(4 * threads, (n + grain - 1) / grain);
  parallel_jobs(chunks, [&](int64_t c) { body(n * c / chunks, n * (c + 1) / chunks); });
}

}  // namespace sextant
