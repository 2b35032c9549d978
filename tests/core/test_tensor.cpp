// SPDX-License-Identifier: Apache-2.0
#include <set>

#include "core/allocator.h"
#include "core/parallel.h"
#include "core/tensor.h"
#include "support/support.h"

using namespace sextant;

TEST_CASE("layout conversions are inverses and put values where they belong") {
  const Tensor t = test::random_tensor(Shape{2, 3, 4, 5}, 1);  // NCHW
  const Tensor u = nchw_to_nhwc(t);
  CHECK(u.shape() == Shape{2, 4, 5, 3});
  CHECK(u.f32()[((1 * 4 + 2) * 5 + 3) * 3 + 2] == t.f32()[((1 * 3 + 2) * 4 + 2) * 5 + 3]);
  CHECK(test::max_difference(nhwc_to_nchw(u), t) == 0);
  const Tensor w = iohw_to_ohwi(t);  // I 2, O 3, 4x5
  CHECK(w.shape() == Shape{3, 4, 5, 2});
  CHECK(w.f32()[((2 * 4 + 1) * 5 + 4) * 2 + 1] == t.f32()[((1 * 3 + 2) * 4 + 1) * 5 + 4]);
  CHECK(test::max_difference(ohwi_to_iohw(w), t) == 0);
}

TEST_CASE("errors of tensors name the mistake") {
  const Tensor t(Shape{2, 3});
  CHECK(test::error_of([&] { t.data<int8_t>(); }) == "tensor: data of dtype F32 requested as I8");
  CHECK(test::error_of([&] { t.reshape(Shape{7}); }) == "reshape: [2,3] to [7]");
  CHECK(test::error_of([&] { Tensor().raw(); }) == "tensor: data of an empty tensor");
  CHECK_THROWS_AS(Shape({1, -1}), Error);
  CHECK_THROWS_AS(Shape({1, 1, 1, 1, 1, 1, 1}), Error);
}

TEST_CASE("the allocator gives aligned memory and counts it") {
  const int64_t before = host_stats().active_bytes;
  {
    const Tensor t(Shape{1000});
    CHECK(reinterpret_cast<uintptr_t>(t.raw()) % 64 == 0);
    CHECK(host_stats().active_bytes >= before + 4000);
    const Tensor view = t.reshape(Shape{10, 100});
    CHECK(view.raw() == t.raw());
    CHECK(!t.unique());
    CHECK(t.clone().raw() != t.raw());
  }
  CHECK(host_stats().active_bytes == before);
}

TEST_CASE("random numbers depend on seed and stream alone") {
  CHECK(splitmix64(0) == 0xe220a8397b1dcdafull);
  CHECK(splitmix64(1) == 0x910a2dec89025cc1ull);
  Rng a(1, 2), b(1, 2), c(1, 3), d(2, 2);
  const uint64_t x = a.next();
  CHECK(x == b.next());
  CHECK(x != c.next());
  CHECK(x != d.next());
  double sum = 0, square = 0;
  std::set<int64_t> seen;
  for (int i = 0; i < 20000; ++i) {
    const double n = a.normal();
    sum += n;
    square += n * n;
    seen.insert(a.below(7));
  }
  CHECK(sum / 20000 == Approx(0).margin(0.03));
  CHECK(square / 20000 == Approx(1).epsilon(0.03));
  CHECK(seen == std::set<int64_t>{0, 1, 2, 3, 4, 5, 6});
}

TEST_CASE("parallel_for covers each index once") {
  for (const int64_t n : {0, 1, 7, 1000})
    for (const int64_t grain : {0, 1, 100, 5000}) {
      std::vector<int> hits(static_cast<size_t>(n));
      parallel_for(n, grain, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) ++hits[static_cast<size_t>(i)];
      });
      CHECK(std::ranges::all_of(hits, [](int h) { return h == 1; }));
    }
}
