// SPDX-License-Identifier: Apache-2.0
#include "deploy/api/pixels.h"

#include <array>

#include "core/error.h"
#include "core/parallel.h"

namespace sextant::deploy {
namespace {

// Bytes of a pixel, and where its red, green and blue lie.
struct PixelLayout {
  int bytes;
  std::array<int, 3> rgb;
};

PixelLayout layout_of(int32_t format, std::string_view name) {
  switch (format) {
    case SEXTANT_RGB:
      return {3, {0, 1, 2}};
    case SEXTANT_BGR:
      return {3, {2, 1, 0}};
    case SEXTANT_RGBA:
      return {4, {0, 1, 2}};
    case SEXTANT_BGRA:
      return {4, {2, 1, 0}};
    case SEXTANT_GREY:
      return {1, {0, 0, 0}};
    default:
      break;
  }
  fail("{}: pixel format {}, must be one of sextant_pixels (0 to 4)", name, format);
}

}  // namespace

data::Image rgb_image(const sextant_image& image, std::string_view name) {
  check(image.pixels != nullptr, "{}: pixels are a null pointer", name);
  const auto side = [](int32_t n) { return n >= 1 && n <= data::kMaxImageSide; };
  check(side(image.width) && side(image.height) &&
            int64_t{image.width} * image.height <= data::kMaxImagePixels,
        "{}: {}x{} pixels, sides must be 1 to {} and their product at most {}", name, image.width,
        image.height, data::kMaxImageSide, data::kMaxImagePixels);
  const PixelLayout layout = layout_of(image.format, name);
  const int64_t row_bytes = int64_t{layout.bytes} * image.width;
  const int64_t stride = image.stride == 0 ? row_bytes : image.stride;
  check(stride >= row_bytes, "{}: stride {}, but a row of {} pixels takes {} bytes", name, stride,
        image.width, row_bytes);

  data::Image out;
  out.width = image.width;
  out.height = image.height;
  out.pixels.resize(static_cast<size_t>(3 * int64_t{image.width} * image.height));
  const auto* first = static_cast<const uint8_t*>(image.pixels);
  const auto copy_rows = [&](int64_t begin, int64_t end) {
    for (int64_t y = begin; y < end; ++y) {
      const uint8_t* from = first + y * stride;
      uint8_t* to = out.row(static_cast<int>(y));
      for (int x = 0; x < image.width; ++x, from += layout.bytes, to += 3)
        for (size_t c = 0; c < 3; ++c) to[c] = from[layout.rgb[c]];
    }
  };
  parallel_for(image.height, 64, copy_rows);
  return out;
}

}  // namespace sextant::deploy
