// SPDX-License-Identifier: Apache-2.0
#include "simt/cases/cases.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace sextant::test {
namespace {
// No value a kernel would write, nor read without an effect: as a float, a NaN with a pattern of
// its own.
constexpr uint32_t kSentinel = 0x7FBADBADu;
char sentinel(int64_t at) { return static_cast<char>(kSentinel >> 8 * (at % 4)); }
}  // namespace

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

std::vector<float> undefined(int64_t n) {
  return std::vector<float>(static_cast<size_t>(n), std::bit_cast<float>(0xFFFFFFFFu));
}

std::vector<float> random_values(int64_t n, uint64_t seed, double low, double high) {
  Rng rng(seed);
  std::vector<float> out(static_cast<size_t>(n));
  for (float& v : out) v = static_cast<float>(rng.uniform(low, high));
  return out;
}

template <class T>
double worst_error(const std::vector<float>& a, const std::vector<T>& b) {
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double x = a[i], y = b[i];
    if (std::isnan(x) && std::isnan(y)) continue;
    const double error = x == y ? 0.0 : std::abs(x - y) / (1.0 + std::abs(y));
    if (std::isnan(error)) return std::numeric_limits<double>::infinity();
    worst = std::max(worst, error);
  }
  return worst;
}
template double worst_error(const std::vector<float>&, const std::vector<float>&);
template double worst_error(const std::vector<float>&, const std::vector<double>&);

DeviceMemory::DeviceMemory(TestGpu& gpu, std::vector<char> bytes, int64_t offset)
    : gpu_(gpu), offset_(offset), before_(std::move(bytes)) {
  std::vector<char> all(static_cast<size_t>(total()));
  for (int64_t i = 0; i < total(); ++i) all[static_cast<size_t>(i)] = sentinel(i);
  std::copy(before_.begin(), before_.end(), all.begin() + kGuard + offset_);
  base_ = static_cast<char*>(gpu.allocate(total()));
  gpu_.upload(base_, all.data(), total());
  guard(true);
}

DeviceMemory::~DeviceMemory() {
  guard(false);
  gpu_.release(base_);
}

void DeviceMemory::guard(bool forbid) const {
  if (forbid) {
    gpu_.forbid(base_, kGuard + offset_);
    gpu_.forbid(begin() + size(), kGuard);
  } else {
    gpu_.allow(base_, kGuard + offset_);
    gpu_.allow(begin() + size(), kGuard);
  }
}

std::vector<char> DeviceMemory::download() const {
  std::vector<char> all(static_cast<size_t>(total()));
  guard(false);
  gpu_.download(all.data(), base_, total());
  guard(true);
  return all;
}

bool DeviceMemory::guards_intact() const {
  const std::vector<char> all = download();
  for (int64_t i = 0; i < total(); ++i) {
    const bool inside = i >= kGuard + offset_ && i < kGuard + offset_ + size();
    if (!inside && all[static_cast<size_t>(i)] != sentinel(i)) return false;
  }
  return true;
}

std::vector<char> DeviceMemory::bytes() const {
  REQUIRE(guards_intact());
  const std::vector<char> all = download();
  const auto from = all.begin() + kGuard + offset_;
  return {from, from + size()};
}

void DeviceMemory::require_unchanged() const { REQUIRE(bytes() == before_); }

}  // namespace sextant::test
