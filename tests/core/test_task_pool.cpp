// SPDX-License-Identifier: Apache-2.0
#include <atomic>

#include "core/error.h"
#include "core/task_pool.h"
#include "support/support.h"

using namespace sextant;

TEST_CASE("TaskPool: results in order, few of them held at a time") {
  for (const int threads : {1, 3}) {
    std::atomic<int64_t> started = 0;
    int64_t expected = 0;
    const auto square = [&](int64_t i) {
      ++started;
      return i * i;
    };
    run_in_order(40, threads, square, [&](int64_t i, int64_t result) {
      CHECK(i == expected++);
      CHECK(result == i * i);
      CHECK(started <= i + threads + 2);
    });
    CHECK(expected == 40);
    const auto breaks = [&](int64_t i) { return i == 5 ? (fail("item {}", i), i) : i; };
    int64_t taken = 0;
    CHECK(test::error_of([&] {
            run_in_order(40, threads, breaks, [&](auto, auto) { ++taken; });
          }) == "item 5");
    CHECK(taken == 5);
  }
}

TEST_CASE("TaskPool: results, exceptions, and everything done at the end") {
  std::atomic<int> done = 0;
  {
    TaskPool pool(3);
    std::vector<std::future<int>> results;
    for (int i = 0; i < 50; ++i)
      results.push_back(pool.submit([i, &done] {
        ++done;
        return i * i;
      }));
    auto broken = pool.submit([]() -> int { fail("task {}", 7); });
    for (int i = 0; i < 50; ++i) CHECK(results[static_cast<size_t>(i)].get() == i * i);
    CHECK(test::error_of([&] { broken.get(); }) == "task 7");
    for (int i = 0; i < 20; ++i) pool.submit([&done] { ++done; });
  }
  CHECK(done == 70);
}
