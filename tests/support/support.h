// SPDX-License-Identifier: Apache-2.0
// Common helpers of the tests.
#pragma once

#if CATCH_MAJOR == 2
#include <catch2/catch.hpp>
#else
#include <catch2/catch_all.hpp>
#endif

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/rng.h"
#include "core/safetensors.h"
#include "core/tensor.h"

#if CATCH_MAJOR > 2
using Catch::Approx;  // which version 2 declares here
#endif

namespace sextant::test {

// A text that contains another.
#if CATCH_MAJOR == 2
using Catch::Matchers::Contains;
#else
inline auto Contains(const std::string& text) { return Catch::Matchers::ContainsSubstring(text); }
#endif

// The folder of shared reference data: $SEXTANT_SHARED, else ../shared beside the source tree, else
// nothing.
std::optional<std::filesystem::path> shared_folder();

// A file under the shared folder's fixtures ("blocks/repvgg_identity"), or, when absent, under
// tests/fixtures of the source tree; empty if neither exists.
std::optional<SafeTensors> fixture(const std::string& name);

// Reports the running test as skipped, unless one of its assertions fails. The caller returns.
void skip(const std::string& reason);

// Declares `name` as the fixture, or skips the test.
#define SEXTANT_REQUIRE_FIXTURE(variable, name)                     \
  const auto variable##_file = ::sextant::test::fixture(name);      \
  if (!variable##_file)                                             \
    return ::sextant::test::skip("fixture " + std::string(name) +   \
                                 " is absent; set SEXTANT_SHARED"); \
  const ::sextant::SafeTensors& variable = *variable##_file

// Uniform in [low, high).
Tensor random_tensor(Shape shape, uint64_t seed, double low = -1.0, double high = 1.0);

// Of a tensor in f32 or f64.
double number_at(const Tensor& t, int64_t i);
// The elements of a tensor in f32.
std::vector<double> doubles(const Tensor& t);

// max |a - b| / max(max |b|, tiny); both f32 (or f64), equal shapes. NaN anywhere gives infinity.
double relative_difference(const Tensor& a, const Tensor& b);
double max_difference(const Tensor& a, const Tensor& b);

// A folder of its own for a test, removed at the end.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

// The message of the Error that `f` throws; "no error" when it throws none.
std::string error_of(const std::function<void()>& f);
bool contains(std::string_view text, std::string_view part);

}  // namespace sextant::test
