#include "core/convert.h"

#include <algorithm>
#include <bit>

namespace sextant {
namespace {

// The exponent moves from bias 15 to bias 127 by a multiplication, which is exact and serves the
// subnormal numbers too.
float from_half(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16;
  const uint32_t rest = static_cast<uint32_t>(h & 0x7fff) << 13;
  if ((h & 0x7c00) == 0x7c00) return std::bit_cast<float>(sign | 0x7f800000 | rest);
  return std::bit_cast<float>(sign |
                              std::bit_cast<uint32_t>(std::bit_cast<float>(rest) * 0x1p112f));
}

float from_bfloat(uint16_t b) { return std::bit_cast<float>(static_cast<uint32_t>(b) << 16); }

template <class T, class F>
Tensor converted(const Tensor& t, F to_float) {
  Tensor out(t.shape());
  const T* in = static_cast<const T*>(t.raw());
  std::transform(in, in + t.numel(), out.f32(), to_float);
  return out;
}

}  // namespace

Tensor to_f32(const Tensor& t) {
  if (t.dtype() == DType::kF16) return converted<uint16_t>(t, from_half);
  if (t.dtype() == DType::kBF16) return converted<uint16_t>(t, from_bfloat);
  if (t.dtype() == DType::kF64)
    return converted<double>(t, [](double v) { return static_cast<float>(v); });
  return t;
}

}  // namespace sextant
