// SPDX-License-Identifier: Apache-2.0
#include "core/memory.h"

#include <algorithm>
#include <fstream>
#include <optional>
#include <string>

namespace sextant {
namespace {

// The number after `key` in a file of "key number" lines.
std::optional<int64_t> number_after(const char* file, const std::string& key) {
  std::ifstream in(file);
  for (std::string word; in >> word;)
    if (int64_t n = 0; word == key && in >> n) return n;
  return std::nullopt;
}

// A file that holds one number; nothing for "max" and where there is none.
std::optional<int64_t> number_in(const char* file) {
  std::ifstream in(file);
  int64_t n = 0;
  return in >> n ? std::optional(n) : std::nullopt;
}

}  // namespace

int64_t available_memory() {
  const int64_t available = number_after("/proc/meminfo", "MemAvailable:").value_or(0) << 10;
  const auto limit = number_in("/sys/fs/cgroup/memory.max");
  const auto used = number_in("/sys/fs/cgroup/memory.current");
  if (!limit || !used) return available;
  return std::min(available, std::max<int64_t>(*limit - *used, 0));
}

}  // namespace sextant
