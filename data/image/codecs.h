// The decoders behind load_image(), one function of each kind for a format. `name` starts messages.
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

// JPEG, PNG and BMP, by stb_image. The header of a JPEG or BMP may be given alone; that of a PNG is
// read by png.h.
ImageHeader stb_header(std::span<const uint8_t> bytes, const std::string& name);
Image stb_decode(std::span<const uint8_t> bytes, const ImageHeader& header,
                 const std::string& name);

bool is_bmp(std::span<const uint8_t> bytes);

// TIFF by libtiff and WebP by libwebp, where the build found them; else they throw Error that says
// so. The whole file, for the header too.
bool is_tiff(std::span<const uint8_t> bytes);
ImageHeader tiff_header(std::span<const uint8_t> bytes, const std::string& name);
Image tiff_decode(std::span<const uint8_t> bytes, const ImageHeader& header,
                  const std::string& name);
bool is_webp(std::span<const uint8_t> bytes);
ImageHeader webp_header(std::span<const uint8_t> bytes, const std::string& name);
Image webp_decode(std::span<const uint8_t> bytes, const ImageHeader& header,
                  const std::string& name);

}  // namespace sextant::data
