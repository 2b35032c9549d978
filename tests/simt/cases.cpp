#include "simt/cases.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace sextant::test {
namespace {
// No value a kernel would write, nor read without an effect: a NaN with a pattern of its own.
const float kSentinel = std::bit_cast<float>(0x7FBADBADu);
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

DeviceArray::DeviceArray(Backend& backend, const std::vector<float>& values, int64_t offset)
    : backend_(backend),
      n_(static_cast<int64_t>(values.size())),
      offset_(offset),
      base_(static_cast<float*>(
          backend.allocate(static_cast<int64_t>(sizeof(float)) * (2 * kGuard + offset + n_)))),
      before_(static_cast<size_t>(total()), kSentinel) {
  std::copy(values.begin(), values.end(), before_.begin() + kGuard + offset_);
  backend_.upload(base_, before_.data(), total() * static_cast<int64_t>(sizeof(float)));
  guard(true);
}

DeviceArray::~DeviceArray() {
  guard(false);
  backend_.release(base_);
}

void DeviceArray::guard(bool forbid) const {
  const auto size = static_cast<int64_t>(sizeof(float));
  if (forbid) {
    backend_.forbid(base_, (kGuard + offset_) * size);
    backend_.forbid(data() + n_, kGuard * size);
  } else {
    backend_.allow(base_, (kGuard + offset_) * size);
    backend_.allow(data() + n_, kGuard * size);
  }
}

std::vector<float> DeviceArray::download() const {
  std::vector<float> all(static_cast<size_t>(total()));
  guard(false);
  backend_.download(all.data(), base_, total() * static_cast<int64_t>(sizeof(float)));
  guard(true);
  return all;
}

bool DeviceArray::guards_intact() const {
  const std::vector<float> all = download();
  const auto intact = [](auto from, auto to) {
    return std::all_of(from, to, [](float v) {
      return std::bit_cast<uint32_t>(v) == std::bit_cast<uint32_t>(kSentinel);
    });
  };
  const auto begin = all.begin() + kGuard + offset_;
  return intact(all.begin(), begin) && intact(begin + n_, all.end());
}

std::vector<float> DeviceArray::values() const {
  REQUIRE(guards_intact());
  const std::vector<float> all = download();
  const auto begin = all.begin() + kGuard + offset_;
  return {begin, begin + n_};
}

void DeviceArray::require_unchanged() const {
  const auto begin = before_.begin() + kGuard + offset_;
  REQUIRE(same_bits(values(), {begin, begin + n_}));
}

}  // namespace sextant::test
