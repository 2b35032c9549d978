// SPDX-License-Identifier: Apache-2.0
#include "core/parallel.h"

#include <sched.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <limits>
#include <mutex>
#include <thread>
#include <vector>

namespace sextant {
namespace {

thread_local bool inside = false;
thread_local int limit = std::numeric_limits<int>::max();

// How long a thread looks out for work, or for the others' last jobs, before it sleeps. Longer than
// what lies between two layers, shorter than what waking up costs a few times over: under foreign
// load, time spent looking is taken from somebody who works.
constexpr std::chrono::microseconds kPatience{40};

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Whether ready() came true within kPatience.
template <class Ready>
bool spin_until(const Ready& ready) {
  const auto end = std::chrono::steady_clock::now() + kPatience;
  do {
    for (int i = 0; i < 32; ++i) {
      if (ready()) return true;
      pause();
    }
  } while (std::chrono::steady_clock::now() < end);
  return ready();
}

int default_threads() {
  if (const char* text = std::getenv("OMP_NUM_THREADS")) {
    const int threads = std::atoi(text);
    if (threads > 0) return threads;
  }
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

std::atomic<int>& thread_count() {
  static std::atomic<int> count = default_threads();
  return count;
}

// One loop at a time. A worker enters the loop that is open, takes jobs until none is left, and
// leaves. The caller takes jobs too; when none is left it closes the loop and waits for those inside
// only: a worker that has not woken up by then is not needed.
class Pool {
 public:
  ~Pool() {
    stop_ = true;
    wake();
    for (std::thread& worker : workers_) worker.join();
  }

  // False, with nothing done, when another thread's loop runs.
  bool run(int64_t jobs, detail::Job job, const void* body) {
    const std::unique_lock lock(one_loop_, std::try_to_lock);
    if (!lock.owns_lock()) return false;
    const int helpers = static_cast<int>(std::min<int64_t>(num_threads(), jobs)) - 1;
    while (static_cast<int>(workers_.size()) < helpers)
      workers_.emplace_back([this, w = static_cast<int>(workers_.size())] { work(w); });
    jobs_ = jobs;
    job_ = job;
    body_ = body;
    helpers_ = helpers;
    next_ = 0;
    inside_ = kOpen;
    wake();
    take_jobs();
    close();
    return true;
  }

 private:
  static constexpr uint32_t kOpen = 1u << 31;

  void wake() {
    loops_.fetch_add(1);
    if (sleepers_.load() > 0) loops_.notify_all();
  }

  void take_jobs() {
    inside = true;
    for (int64_t i = next_++; i < jobs_; i = next_++) job_(body_, i);
    inside = false;
  }

  bool enter() {
    uint32_t now = inside_.load();
    while (now & kOpen)
      if (inside_.compare_exchange_weak(now, now + 1)) return true;
    return false;
  }
  void leave() {
    if (inside_.fetch_sub(1) == 1) inside_.notify_all();
  }
  void close() {
    uint32_t now = inside_.fetch_and(~kOpen) & ~kOpen;
    if (now == 0 || spin_until([&] { return inside_.load() == 0; })) return;
    while ((now = inside_.load()) != 0) inside_.wait(now);
  }

  void work(int index) {
    uint32_t seen = 0;
    while (!stop_) {
      if (loops_.load() == seen && !spin_until([&] { return loops_.load() != seen; })) {
        sleepers_.fetch_add(1);
        loops_.wait(seen);
        sleepers_.fetch_sub(1);
      }
      seen = loops_.load();
      if (!enter()) continue;
      if (index < helpers_) take_jobs();
      leave();
    }
  }

  std::mutex one_loop_;
  std::vector<std::thread> workers_;
  // Of the open loop.
  int64_t jobs_ = 0;
  detail::Job job_ = nullptr;
  const void* body_ = nullptr;
  int helpers_ = 0;

  alignas(64) std::atomic<int64_t> next_ = 0;
  alignas(64) std::atomic<uint32_t> inside_ = 0;  // workers in the loop, and kOpen
  alignas(64) std::atomic<uint32_t> loops_ = 0;   // so far
  std::atomic<int> sleepers_ = 0;
  std::atomic<bool> stop_ = false;
};

}  // namespace

int num_threads() { return std::min(limit, thread_count().load(std::memory_order_relaxed)); }

ThreadLimit::ThreadLimit(int threads) : before_(limit) {
  if (threads > 0) limit = std::min(limit, threads);
}
ThreadLimit::~ThreadLimit() { limit = before_; }

void set_num_threads(int threads) { thread_count() = std::max(1, threads); }

bool detail::inside_job() { return inside; }

void detail::run_jobs(int64_t jobs, Job job, const void* body) {
  static Pool pool;
  if (pool.run(jobs, job, body)) return;
  for (int64_t i = 0; i < jobs; ++i) job(body, i);
}

}  // namespace sextant
