// SPDX-License-Identifier: Apache-2.0
// The decoders behind load_image(), a header and a pixel function for each format. Messages start
// with `name`.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "data/image/image.h"

namespace sextant::data {

// Size as stored, and how to turn it to be upright.
struct ImageHeader {
  int64_t width = 0, height = 0;
  int orientation = 1;
};

// JPEG, by libjpeg. For the header, the beginning of the file suffices. `reduction`: 1, 2, 4 or 8;
// both sides are divided by it and rounded up, in the inverse transform, which saves most of its
// work. An image with damaged data is refused.
ImageHeader jpeg_header(std::span<const uint8_t> bytes, const std::string& name);
Image jpeg_decode(std::span<const uint8_t> bytes, const ImageHeader& header,
                  const std::string& name, int reduction = 1);

// PNG and BMP, by stb_image. For the header of a BMP, the beginning of the file suffices; a PNG
// header is read by png.h.
ImageHeader stb_header(std::span<const uint8_t> bytes, const std::string& name);
Image stb_decode(std::span<const uint8_t> bytes, const ImageHeader& header,
                 const std::string& name);

bool is_bmp(std::span<const uint8_t> bytes);

// TIFF by libtiff and WebP by libwebp, if the build found them; otherwise they throw Error. They
// need the whole file, even for the header.
bool is_tiff(std::span<const uint8_t> bytes);
ImageHeader tiff_header(std::span<const uint8_t> bytes, const std::string& name);
Image tiff_decode(std::span<const uint8_t> bytes, const ImageHeader& header,
                  const std::string& name);
bool is_webp(std::span<const uint8_t> bytes);
ImageHeader webp_header(std::span<const uint8_t> bytes, const std::string& name);
Image webp_decode(std::span<const uint8_t> bytes, const ImageHeader& header,
                  const std::string& name);

}  // namespace sextant::data
