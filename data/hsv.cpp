#include "data/hsv.h"

#include <algorithm>
#include <cmath>

namespace sextant::data {
namespace {

constexpr int kShift = 12;
constexpr int kHueRange = 180;

// Reciprocals in fixed point, so that the conversion needs no division.
struct Reciprocals {
  std::array<int, 256> saturation{};  // 255 / v
  std::array<int, 256> hue{};         // 180 / (6 * difference)
  Reciprocals() {
    for (int i = 1; i < 256; ++i) {
      saturation[static_cast<size_t>(i)] =
          static_cast<int>(std::lrint((255 << kShift) / (1.0 * i)));
      hue[static_cast<size_t>(i)] = static_cast<int>(std::lrint((kHueRange << kShift) / (6.0 * i)));
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
  for (int64_t i = 0; i < n; ++i, rgb += 3, hsv += 3) {
    const int r = rgb[0];
    const int g = rgb[1];
    const int b = rgb[2];
    const int v = std::max({r, g, b});
    const int difference = v - std::min({r, g, b});
    const int s =
        (difference * table.saturation[static_cast<size_t>(v)] + (1 << (kShift - 1))) >> kShift;
    const int sector = v == r ? g - b : v == g ? b - r + 2 * difference : r - g + 4 * difference;
    int h = (sector * table.hue[static_cast<size_t>(difference)] + (1 << (kShift - 1))) >> kShift;
    if (h < 0) h += kHueRange;
    hsv[0] = static_cast<uint8_t>(h);
    hsv[1] = static_cast<uint8_t>(s);
    hsv[2] = static_cast<uint8_t>(v);
  }
}

void hsv_to_rgb(const uint8_t* hsv, uint8_t* rgb, int64_t n) {
  // Each channel is v, p = v(1-s), q = v(1-sf) or t = v(1-s(1-f)), by the sector of the hue; f in
  // 1/30, s in 1/255.
  constexpr uint8_t kRed[6] = {0, 2, 1, 1, 3, 0};
  constexpr uint8_t kGreen[6] = {3, 0, 0, 2, 1, 1};
  constexpr uint8_t kBlue[6] = {1, 1, 3, 0, 0, 2};
  constexpr uint32_t kSector = kHueRange / 6;
  constexpr uint32_t kUnit = 255 * kSector;
  for (int64_t i = 0; i < n; ++i, hsv += 3, rgb += 3) {
    const uint32_t hue = hsv[0] % kHueRange;
    const uint32_t s = hsv[1];
    const uint32_t v = hsv[2];
    const uint32_t sector = hue / kSector;
    const uint32_t f = hue % kSector;
    auto value = [&](uint32_t share) {
      return static_cast<uint8_t>((v * (kUnit - s * share) + kUnit / 2) / kUnit);
    };
    const uint8_t values[4] = {hsv[2], value(kSector), value(f), value(kSector - f)};
    rgb[0] = values[kRed[sector]];
    rgb[1] = values[kGreen[sector]];
    rgb[2] = values[kBlue[sector]];
  }
}

HsvTables hsv_tables(double hue, double saturation, double value) {
  HsvTables t;
  for (int i = 0; i < 256; ++i) {
    const auto k = static_cast<size_t>(i);
    t.hue[k] = static_cast<uint8_t>(std::fmod(i * hue, kHueRange));
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
