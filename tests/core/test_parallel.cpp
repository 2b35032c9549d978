// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <thread>
#include <vector>

#include "core/parallel.h"
#include "support/support.h"

using namespace sextant;

namespace {

class Threads {
 public:
  explicit Threads(int count) : before_(num_threads()) { set_num_threads(count); }
  ~Threads() { set_num_threads(before_); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

 private:
  int before_;
};

}  // namespace

TEST_CASE("parallel_jobs: each job once, whatever the number of threads") {
  for (const int count : {1, 2, 5}) {
    const Threads threads(count);
    for (int loop = 0; loop < 300; ++loop) {
      std::vector<std::atomic<int>> done(static_cast<size_t>(loop % 17));
      parallel_jobs(std::ssize(done), [&](int64_t i) { ++done[static_cast<size_t>(i)]; });
      for (const auto& d : done) REQUIRE(d == 1);
    }
  }
}

TEST_CASE("parallel_jobs: several threads take part") {
  const Threads threads(2);
  // Each job waits for the other: one thread alone would not end.
  std::atomic<int> here = 0;
  parallel_jobs(2, [&](int64_t) {
    ++here;
    while (here < 2) std::this_thread::yield();
  });
  CHECK(here == 2);
}

TEST_CASE("parallel_for: chunks cover the range") {
  const Threads threads(3);
  for (const int64_t n : {0, 1, 7, 1000})
    for (const int64_t grain : {0, 1, 10, 5000}) {
      std::vector<std::atomic<int>> seen(static_cast<size_t>(n));
      std::atomic<int> calls = 0;
      parallel_for(n, grain, [&](int64_t begin, int64_t end) {
        ++calls;
        for (int64_t i = begin; i < end; ++i) ++seen[static_cast<size_t>(i)];
      });
      CHECK(std::ranges::all_of(seen, [](const auto& s) { return s == 1; }));
      if (n > 0 && n <= grain) CHECK(calls == 1);
    }
}

TEST_CASE("parallel loops inside loops, and of several threads at once") {
  const Threads threads(2);
  std::atomic<int64_t> sum = 0;
  std::vector<std::thread> callers;
  for (int t = 0; t < 3; ++t)
    callers.emplace_back([&] {
      for (int loop = 0; loop < 50; ++loop)
        parallel_jobs(4, [&](int64_t i) {
          parallel_for(10, 1, [&](int64_t begin, int64_t end) { sum += (end - begin) * (i + 1); });
        });
    });
  for (auto& caller : callers) caller.join();
  CHECK(sum == 3 * 50 * 10 * (1 + 2 + 3 + 4));
}

TEST_CASE("ThreadLimit: loops of this thread alone, and only while it lives") {
  const Threads threads(4);
  {
    const ThreadLimit two(2);
    CHECK(num_threads() == 2);
    {
      const ThreadLimit one(1), none(0), more(8);
      CHECK(num_threads() == 1);
      const std::thread::id self = std::this_thread::get_id();
      std::atomic<int> elsewhere = 0;
      parallel_jobs(100, [&](int64_t) { elsewhere += std::this_thread::get_id() != self; });
      CHECK(elsewhere == 0);
      std::thread([&] { elsewhere = num_threads(); }).join();
      CHECK(elsewhere == 4);
    }
    CHECK(num_threads() == 2);
  }
  CHECK(num_threads() == 4);
}
