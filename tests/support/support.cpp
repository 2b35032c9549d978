// SPDX-License-Identifier: Apache-2.0
#include "support/support.h"

#include <unistd.h>

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <limits>

namespace sextant::test {

namespace fs = std::filesystem;

std::optional<fs::path> shared_folder() {
  if (const char* env = std::getenv("SEXTANT_SHARED")) {
    if (fs::is_directory(env)) return fs::path(env);
    return std::nullopt;
  }
  const fs::path beside = fs::path(SEXTANT_SOURCE_DIR) / ".." / "shared";
  if (fs::is_directory(beside)) return beside;
  return std::nullopt;
}

std::optional<SafeTensors> fixture(const std::string& name) {
  if (const auto shared = shared_folder()) {
    const fs::path file = *shared / "fixtures" / (name + ".safetensors");
    if (fs::exists(file)) return load_safetensors(file);
  }
  const fs::path own = fs::path(SEXTANT_SOURCE_DIR) / "tests/fixtures" / (name + ".safetensors");
  if (fs::exists(own)) return load_safetensors(own);
  return std::nullopt;
}

Tensor random_tensor(Shape shape, uint64_t seed, double low, double high) {
  Tensor t(shape);
  Rng rng(seed);
  for (float& v : t.span<float>()) v = static_cast<float>(rng.uniform(low, high));
  return t;
}

double number_at(const Tensor& t, int64_t i) {
  return t.dtype() == DType::kF64 ? t.data<double>()[i] : static_cast<double>(t.f32()[i]);
}

std::vector<double> doubles(const Tensor& t) {
  const auto s = t.span<float>();
  return {s.begin(), s.end()};
}

double max_difference(const Tensor& a, const Tensor& b) {
  check(a.shape() == b.shape(), "shapes differ: {} and {}", a.shape().str(), b.shape().str());
  double worst = 0;
  for (int64_t i = 0; i < a.numel(); ++i) {
    const double d = std::abs(number_at(a, i) - number_at(b, i));
    if (std::isnan(d)) return std::numeric_limits<double>::infinity();
    worst = std::max(worst, d);
  }
  return worst;
}

double relative_difference(const Tensor& a, const Tensor& b) {
  double largest = 1e-30;
  for (int64_t i = 0; i < b.numel(); ++i) largest = std::max(largest, std::abs(number_at(b, i)));
  return max_difference(a, b) / largest;
}

TemporaryFolder::TemporaryFolder() {
  static std::atomic<int> counter{0};
  path_ = fs::temp_directory_path() /
          ("sextant-test-" + std::to_string(::getpid()) + "-" + std::to_string(counter++));
  fs::create_directories(path_);
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ec;
  fs::remove_all(path_, ec);
}

std::string error_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

}  // namespace sextant::test
