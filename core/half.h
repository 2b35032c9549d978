// SPDX-License-Identifier: Apache-2.0
// The 16-bit floating-point types on the host: storage, and conversions that round to nearest even.
// Every NaN becomes the one that a GPU's conversion gives.
#pragma once

#include <bit>
#include <cstdint>

namespace sextant {

// IEEE binary16.
struct Half {
  uint16_t bits;
};
// The upper half of a binary32.
struct BFloat16 {
  uint16_t bits;
};

inline float to_float(BFloat16 v) { return std::bit_cast<float>(uint32_t{v.bits} << 16); }
inline float to_float(Half v) {
  const uint32_t sign = uint32_t{v.bits & 0x8000u} << 16;
  const uint32_t magnitude = v.bits & 0x7fffu;
  if (magnitude >= 0x7c00u)  // infinity, NaN
    return std::bit_cast<float>(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  if (magnitude < 0x400u)  // zero, subnormal: a multiple of 2^-24
    return std::bit_cast<float>(sign |
                                std::bit_cast<uint32_t>(static_cast<float>(magnitude) * 0x1p-24f));
  return std::bit_cast<float>(sign | ((magnitude << 13) + ((127u - 15u) << 23)));
}

inline BFloat16 to_bfloat16(float f) {
  const auto u = std::bit_cast<uint32_t>(f);
  if ((u & 0x7fffffffu) > 0x7f800000u) return {0x7fff};
  return {static_cast<uint16_t>((u + 0x7fffu + (u >> 16 & 1u)) >> 16)};
}
inline Half to_half(float f) {
  const auto u = std::bit_cast<uint32_t>(f);
  const uint32_t sign = u >> 16 & 0x8000u;
  const uint32_t magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {0x7fff};
  if (magnitude >= 0x477ff000u) return {static_cast<uint16_t>(sign | 0x7c00u)};  // 65520 and above
  if (magnitude < 0x38800000u) {  // below 2^-14: the addition rounds to a multiple of 2^-24
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return {static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000u))};
  }
  const uint32_t rebiased = magnitude - ((127u - 15u) << 23);
  return {static_cast<uint16_t>(sign | (rebiased + 0xfffu + (rebiased >> 13 & 1u)) >> 13)};
}

}  // namespace sextant
