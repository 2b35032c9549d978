// SPDX-License-Identifier: Apache-2.0
#include "kernels/cast.h"

#include "core/half.h"
#include "core/parallel.h"
#include "kernels/cpu/namespace.h"

namespace sextant::kernels::SEXTANT_CPU {
namespace {

template <class From, class To, class F>
void convert(const Cast& p, const F& f) {
  const auto* from = static_cast<const From*>(p.from);
  auto* to = static_cast<To*>(p.to);
  parallel_for(p.n, 1 << 14, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) to[i] = f(from[i]);
  });
}

}  // namespace

void cast(const Cast& p) {
  const auto is = [&](DType from, DType to) { return p.from_type == from && p.to_type == to; };
  if (is(DType::kF32, DType::kF16)) return convert<float, Half>(p, to_half);
  if (is(DType::kF32, DType::kBF16)) return convert<float, BFloat16>(p, to_bfloat16);
  if (is(DType::kF16, DType::kF32))
    return convert<Half, float>(p, [](Half v) { return to_float(v); });
  if (is(DType::kBF16, DType::kF32))
    return convert<BFloat16, float>(p, [](BFloat16 v) { return to_float(v); });
  if (is(DType::kF64, DType::kF32))
    return convert<double, float>(p, [](double v) { return static_cast<float>(v); });
  fail("cast: {} to {}, must be F32 and F16 or BF16, or F64 to F32", name_of(p.from_type),
       name_of(p.to_type));
}

}  // namespace sextant::kernels::SEXTANT_CPU
