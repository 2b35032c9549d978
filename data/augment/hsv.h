// SPDX-License-Identifier: Apache-2.0
// Hue, saturation and value jitter through look-up tables, with OpenCV's 8-bit colour conversions
// (hue in 0..179), as the official augment_hsv.
#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace sextant::data {

struct HsvTables {
  std::array<uint8_t, 256> hue{};
  std::array<uint8_t, 256> saturation{};
  std::array<uint8_t, 256> value{};
};

// Factors on hue, saturation and value: 1 + u * gain with u in [-1, 1).
HsvTables hsv_tables(double hue, double saturation, double value);

// In place, on n RGB pixels (3 * n bytes).
void apply_hsv(const HsvTables& tables, uint8_t* rgb, int64_t n);

// The conversions, pixel by pixel; n pixels, 3 bytes each. in and out may be the same. rgb_to_hsv
// is OpenCV 4.6's bit for bit. hsv_to_rgb is exact and rounds a half up; OpenCV computes in floats;
// its scalar code rounds (differing from this by 1 at exact halves only), but its vector code
// truncates, so that a pixel's value depends on its column.
void rgb_to_hsv(const uint8_t* rgb, uint8_t* hsv, int64_t n);
void hsv_to_rgb(const uint8_t* hsv, uint8_t* rgb, int64_t n);

}  // namespace sextant::data
