// SPDX-License-Identifier: Apache-2.0
#include "core/convert.h"

#include <algorithm>

#include "core/half.h"

namespace sextant {
namespace {

template <class T, class F>
Tensor converted(const Tensor& t, F to_float) {
  Tensor out(t.shape());
  const T* in = static_cast<const T*>(t.raw());
  std::transform(in, in + t.numel(), out.f32(), to_float);
  return out;
}

}  // namespace

Tensor to_f32(const Tensor& t) {
  if (t.dtype() == DType::kF16) return converted<Half>(t, [](Half v) { return to_float(v); });
  if (t.dtype() == DType::kBF16)
    return converted<BFloat16>(t, [](BFloat16 v) { return to_float(v); });
  if (t.dtype() == DType::kF64)
    return converted<double>(t, [](double v) { return static_cast<float>(v); });
  return t;
}

}  // namespace sextant
