// SPDX-License-Identifier: Apache-2.0
#include "core/communicator.h"

#include <algorithm>
#include <cstring>

namespace sextant {
namespace {

thread_local Communicator* current = nullptr;

}  // namespace

void WithoutImages::sum(void* values, int64_t n, DType dtype, Device device) {
  const int64_t bytes = n * size_of(dtype);
  if (device == Device::kCpu)
    std::memset(values, 0, static_cast<size_t>(bytes));
  else
    accelerator().fill_zero(values, bytes, compute_stream());
  all_.sum(values, n, dtype, device);
}

Communicator* processes() { return current; }
ProcessesScope::ProcessesScope(Communicator* communicator) : before_(current) {
  current = communicator;
}
ProcessesScope::~ProcessesScope() { current = before_; }

std::string text_from_first(const std::function<std::string()>& f) {
  if (!current) return f();
  std::string text;
  if (current->rank() == 0) text = f();
  auto size = static_cast<int64_t>(text.size());
  current->broadcast(&size, sizeof(size), Device::kCpu);
  text.resize(static_cast<size_t>(size));
  if (size > 0) current->broadcast(text.data(), size, Device::kCpu);
  return text;
}
bool from_first(const std::function<bool()>& f) {
  return text_from_first([&f] { return f() ? "1" : ""; }) == "1";
}

Share share_of(int64_t n, int rank, int size) {
  const int64_t each = n / size, more = n % size;
  const auto begin = [&](int64_t r) { return r * each + std::min(r, more); };
  return {begin(rank), begin(rank + int64_t{1})};
}

}  // namespace sextant
