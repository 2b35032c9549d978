// SPDX-License-Identifier: Apache-2.0
// Uploads lists of plain values for device kernels.
#pragma once

#include <span>

#include "core/tensor.h"

namespace sextant {

// A copy of the values in device memory, as U8 [values * sizeof(T)].
template <class T>
Tensor device_bytes(std::span<const T> values) {
  const auto bytes = static_cast<int64_t>(values.size_bytes());
  Tensor t(Shape{bytes}, DType::kU8, Device::kCuda);
  accelerator().upload(t.raw(), values.data(), bytes, compute_stream());
  return t;
}

}  // namespace sextant
