// SPDX-License-Identifier: Apache-2.0
#include "data/augment/hsv.h"

#include <algorithm>
#include <cmath>

#include "kernels/math/image.h"

namespace sextant::data {
namespace {

namespace image = kernels::image;

// Of int, so that vectors of pixels look up in them.
using IntTable = std::array<int, 256>;

IntTable as_int(const std::array<uint8_t, 256>& table) {
  IntTable wide{};
  std::ranges::copy(table, wide.begin());
  return wide;
}

// Tables, so that the conversion needs no division.
struct Reciprocals {
  IntTable saturation{};
  IntTable hue{};
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

image::Channels hsv_of(image::Channels rgb, const Reciprocals& table) {
  return image::hsv_of(rgb, table.saturation[static_cast<size_t>(image::largest(rgb))],
                       table.hue[static_cast<size_t>(image::range_of(rgb))]);
}

// to[i] = f(from[i]) for n pixels, channel by channel within a block, so that f is computed for a
// vector of pixels at a time.
template <class F>
void in_blocks(const uint8_t* from, uint8_t* to, int64_t n, const F& f) {
  constexpr int64_t kBlock = 256;
  std::array<int, kBlock> a, b, c;
  for (int64_t done = 0; done < n; done += kBlock) {
    const auto count = static_cast<size_t>(std::min(kBlock, n - done));
    const uint8_t* x = from + 3 * done;
    for (size_t i = 0; i < count; ++i) {
      a[i] = x[3 * i];
      b[i] = x[3 * i + 1];
      c[i] = x[3 * i + 2];
    }
#pragma omp simd
    for (size_t i = 0; i < count; ++i) {
      const image::Channels y = f({a[i], b[i], c[i]});
      a[i] = y.a;
      b[i] = y.b;
      c[i] = y.c;
    }
    uint8_t* y = to + 3 * done;
    for (size_t i = 0; i < count; ++i) {
      y[3 * i] = static_cast<uint8_t>(a[i]);
      y[3 * i + 1] = static_cast<uint8_t>(b[i]);
      y[3 * i + 2] = static_cast<uint8_t>(c[i]);
    }
  }
}

}  // namespace

void rgb_to_hsv(const uint8_t* rgb, uint8_t* hsv, int64_t n) {
  in_blocks(rgb, hsv, n, [&table = reciprocals()](image::Channels x) { return hsv_of(x, table); });
}

void hsv_to_rgb(const uint8_t* hsv, uint8_t* rgb, int64_t n) {
  in_blocks(hsv, rgb, n, [](image::Channels x) {
    return image::rgb_of({x.a % image::kHueRange, x.b, x.c});
  });
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
  const IntTable hue = as_int(tables.hue), saturation = as_int(tables.saturation),
                 value = as_int(tables.value);
  in_blocks(rgb, rgb, n, [&, &table = reciprocals()](image::Channels x) {
    const image::Channels hsv = hsv_of(x, table);
    return image::rgb_of({hue[static_cast<size_t>(hsv.a)], saturation[static_cast<size_t>(hsv.b)],
                          value[static_cast<size_t>(hsv.c)]});
  });
}

}  // namespace sextant::data
