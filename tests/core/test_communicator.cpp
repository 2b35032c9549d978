// SPDX-License-Identifier: Apache-2.0
#include "core/communicator.h"
#include "support/support.h"
#include "support/thread_processes.h"

using namespace sextant;

TEST_CASE("shares cover everything once, the first ones the larger") {
  for (const int64_t n : {0, 1, 7, 16, 31})
    for (const int size : {1, 2, 3, 4, 9}) {
      int64_t at = 0, before = n;
      for (int rank = 0; rank < size; ++rank) {
        const Share s = share_of(n, rank, size);
        CHECK(s.begin == at);
        CHECK(s.size() <= before);
        CHECK(s.size() >= n / size);
        before = s.size();
        at = s.end;
      }
      CHECK(at == n);
    }
}

TEST_CASE("one process alone, and what the first decides") {
  CHECK(processes() == nullptr);
  CHECK(is_first_process());
  CHECK(text_from_first([] { return std::string("alone"); }) == "alone");
  std::vector<std::string> texts(3);
  std::vector<int> calls(3);
  test::on_processes(3, [&](Communicator& all) {
    const auto rank = static_cast<size_t>(all.rank());
    check(is_first_process() == (rank == 0), "process {}", rank);
    texts[rank] = text_from_first([&] {
      ++calls[rank];
      return "from " + std::to_string(rank);
    });
    check(!from_first([&] { return rank > 0; }), "process {} decided", rank);
  });
  CHECK(texts == std::vector<std::string>(3, "from 0"));
  CHECK(calls == std::vector<int>{1, 0, 0});
  CHECK(processes() == nullptr);
}

TEST_CASE("a process without images adds zeros") {
  std::vector<double> sums(3);
  test::on_processes(3, [&](Communicator& all) {
    double value = 1 << all.rank();
    WithoutImages without(all);
    Communicator& mine = all.rank() == 1 ? static_cast<Communicator&>(without) : all;
    mine.sum(&value, 1, DType::kF64, Device::kCpu);
    sums[static_cast<size_t>(all.rank())] = value;
  });
  CHECK(sums == std::vector<double>(3, 5.0));
}
