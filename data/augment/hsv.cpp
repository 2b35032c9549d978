// SPDX-License-Identifier: Apache-2.0
#include "data/augment/hsv.h"

#include <algorithm>
#include <cmath>

#include "kernels/math/image.h"

namespace sextant::data {
namespace {

namespace image = kernels::image;

// Tables, so that the conversion needs no division.
struct Reciprocals {
  std::array<int, 256> saturation{};
  std::array<int, 256> hue{};
  Reciprocals() {
    for (int i = 0; i < 256; ++i) {
      saturation[static_cast<size_t>(i)] = image::saturation_reciprocal(i);
      hue[static_cast<size_t>(i)] = image::hue_reciprocal(i);
    }
  }
};
const Reciprocals& reciprocals() {
  static const Reciprocals table;
  return table;
}

}  // namespace

void rgb_to_hsv(const uint8_t* rgb, uint8_t* hsv, int64_t n) {
  const Reciprocals& table = reciprocals();
  for (int64_t i = 0; i < n; ++i, rgb += 3, hsv += 3)
    image::rgb_to_hsv(rgb, table.saturation[static_cast<size_t>(image::largest(rgb))],
                      table.hue[static_cast<size_t>(image::range_of(rgb))], hsv);
}

void hsv_to_rgb(const uint8_t* hsv, uint8_t* rgb, int64_t n) {
  for (int64_t i = 0; i < n; ++i, hsv += 3, rgb += 3) {
    const uint8_t pixel[3] = {hsv[0], hsv[1], hsv[2]};  // a copy, since input and output may alias
    image::hsv_to_rgb(pixel, rgb);
  }
}

HsvTables hsv_tables(double hue, double saturation, double value) {
  HsvTables t;
  for (int i = 0; i < 256; ++i) {
    const auto k = static_cast<size_t>(i);
    t.hue[k] = static_cast<uint8_t>(std::fmod(i * hue, image::kHueRange));
    t.saturation[k] = static_cast<uint8_t>(std::clamp(i * saturation, 0.0, 255.0));
    t.value[k] = static_cast<uint8_t>(std::clamp(i * value, 0.0, 255.0));
  }
  return t;
}

void apply_hsv(const HsvTables& tables, uint8_t* rgb, int64_t n) {
  constexpr int64_t kBlock = 256;
  std::array<uint8_t, 3 * kBlock> block;
  for (int64_t done = 0; done < n; done += kBlock, rgb += 3 * kBlock) {
    const int64_t count = std::min(kBlock, n - done);
    rgb_to_hsv(rgb, block.data(), count);
    for (int64_t i = 0; i < count; ++i) {
      uint8_t* p = block.data() + 3 * i;
      p[0] = tables.hue[p[0]];
      p[1] = tables.saturation[p[1]];
      p[2] = tables.value[p[2]];
    }
    hsv_to_rgb(block.data(), rgb, count);
  }
}

}  // namespace sextant::data
