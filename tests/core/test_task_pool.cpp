// SPDX-License-Identifier: Apache-2.0
#include <atomic>

#include "core/error.h"
#include "core/task_pool.h"
#include "support/support.h"

using namespace sextant;

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
