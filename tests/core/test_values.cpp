// SPDX-License-Identifier: Apache-2.0
// Limits of what a model may hold: values, memory, class names.
#include <cmath>
#include <limits>

#include "core/allocator.h"
#include "core/class_names.h"
#include "core/half.h"
#include "core/values.h"
#include "support/support.h"

using namespace sextant;
using sextant::test::Contains;
using sextant::test::error_of;

TEST_CASE("values: non-finite and impossible values are named") {
  const auto error = [](float v, const char* name) {
    const Tensor t = Tensor::from<float>({3}, std::vector<float>{1, v, 2});
    return error_of([&] { check_values(t, name, "m.safetensors"); });
  };
  CHECK(error(-5, "conv.weight") == "no error");
  CHECK(error(0, "bn.running_var") == "no error");
  CHECK_THAT(error(NAN, "conv.weight"), Contains("m.safetensors: tensor 'conv.weight' holds nan"));
  CHECK_THAT(error(-INFINITY, "conv.bias"), Contains("holds -inf"));
  CHECK_THAT(error(1e13f, "conv.weight"), Contains("must be in"));
  CHECK_THAT(error(-1, "bn.running_var"), Contains("holds -1") && Contains("[0, "));
  const Tensor half(Shape{1}, DType::kF16);
  static_cast<Half*>(half.raw())->bits = 0x7c00;
  CHECK_THAT(error_of([&] { check_values(half, "w", "m"); }), Contains("inf"));
  check_values(Tensor::from<int8_t>({1}, std::vector<int8_t>{-128}), "q", "m");
}

TEST_CASE("allocation budget: bounds a thread's allocations minus what it frees") {
  const auto take = [](int64_t floats) { return Tensor(Shape{floats}); };
  const AllocationBudget outer(1 << 20, "more than a megabyte");
  for (int k = 0; k < 10; ++k) take(100'000);  // given back each time
  CHECK(error_of([&] { take(1 << 20); }) == "more than a megabyte");
  {
    const AllocationBudget inner(1 << 30, "more than a gigabyte");
    CHECK(error_of([&] { take(1 << 20); }) == "more than a megabyte");
    CHECK(error_of([&] { take(1 << 29); }) == "more than a gigabyte");
  }
  const Tensor half = take(1 << 17);
  CHECK(error_of([&] { take(1 << 18); }) == "more than a megabyte");
  take(1 << 16);
}

TEST_CASE("class names: the requirements of every reader") {
  const auto error = [](const std::vector<std::string>& names) {
    return error_of([&] { check_class_names(names, "data.yaml"); });
  };
  CHECK(error({"a", "Größe", ""}) == "no error");
  CHECK(error({"a", "b", "a"}) == "data.yaml: duplicate class name 'a'");
  CHECK_THAT(error({"Gr\xf6\xdf"
                    "e"}),
             Contains("data.yaml") && Contains("not UTF-8"));
  CHECK_THAT(error({std::string(2000, 'x')}), Contains("2000 bytes"));
  CHECK_THAT(error(std::vector<std::string>(70000)), Contains("70000 classes"));
}

TEST_CASE("class names: matched by name, and the difference named") {
  using Names = std::vector<std::string>;
  const auto match = [](const Names& a, const Names& b) {
    return match_classes(a, "the data", b, "the model");
  };
  CHECK(match({"a", "b", "c"}, {"c", "a", "b"}) == std::vector<int64_t>{1, 2, 0});
  CHECK(match({"a", "b"}, {"0", "1"}) == std::vector<int64_t>{0, 1});
  CHECK(match({"0", "1"}, {"a", "b"}) == std::vector<int64_t>{0, 1});
  CHECK(match({"a"}, {}) == std::vector<int64_t>{0});
  CHECK(error_of([&] {
          match({"a", "x"}, {"a", "b"});
        }) == "the data: other classes than the model: it has 'x', it lacks 'b'");
  CHECK_THAT(error_of([&] { match({"a"}, {"a", "b"}); }), Contains("it lacks 'b'"));
  CHECK_THAT(error_of([&] {
               match({"p", "q", "r", "s", "t"}, {"p"});
             }),
             Contains("'q', 'r', 's' and 1 more"));
  CHECK_THAT(error_of([&] {
               match({"a", "b", "c"}, {"0", "1"});
             }),
             Contains("3 classes instead of 2"));
}
