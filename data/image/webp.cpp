// SPDX-License-Identifier: Apache-2.0
#include <string_view>

#include "core/error.h"
#include "data/image/codecs.h"
#include "data/image/exif.h"

#ifdef SEXTANT_WEBP
#include <webp/decode.h>
#endif

namespace sextant::data {
namespace {

std::string_view four(std::span<const uint8_t> bytes, size_t at) {
  return {reinterpret_cast<const char*>(bytes.data()) + at, 4};
}

}  // namespace

bool is_webp(std::span<const uint8_t> bytes) {
  return bytes.size() >= 12 && four(bytes, 0) == "RIFF" && four(bytes, 8) == "WEBP";
}

#ifdef SEXTANT_WEBP

namespace {

// From the EXIF chunk of the RIFF container, which some writers start with a JPEG's header.
int webp_orientation(std::span<const uint8_t> bytes) {
  constexpr std::string_view kTitle("Exif\0\0", 6);
  for (size_t at = 12; at + 8 <= bytes.size();) {
    size_t length = 0;
    for (size_t i = 4; i-- > 0;) length = length << 8 | bytes[at + 4 + i];
    if (length > bytes.size() - at - 8) return 1;
    const auto contents = bytes.subspan(at + 8, length);
    if (four(bytes, at) == "EXIF") {
      const std::string_view text(reinterpret_cast<const char*>(contents.data()), contents.size());
      return exif_orientation(contents.subspan(text.starts_with(kTitle) ? kTitle.size() : 0));
    }
    at += 8 + length + length % 2;
  }
  return 1;
}

}  // namespace

ImageHeader webp_header(std::span<const uint8_t> bytes, const std::string& name) {
  WebPBitstreamFeatures features{};
  check(WebPGetFeatures(bytes.data(), bytes.size(), &features) == VP8_STATUS_OK,
        "{}: the image header is broken", name);
  check(features.has_animation == 0, "{}: the WebP file is an animation", name);
  return {features.width, features.height, webp_orientation(bytes)};
}

Image webp_decode(std::span<const uint8_t> bytes, const ImageHeader& header,
                  const std::string& name) {
  Image image = make_image(static_cast<int>(header.width), static_cast<int>(header.height));
  check(WebPDecodeRGBInto(bytes.data(), bytes.size(), image.pixels.data(), image.pixels.size(),
                          static_cast<int>(image.pitch())) != nullptr,
        "{}: the image does not decode", name);
  return image;
}

#else

ImageHeader webp_header(std::span<const uint8_t>, const std::string& name) {
  fail("{}: is a WebP file, and this program was built without libwebp", name);
}
Image webp_decode(std::span<const uint8_t>, const ImageHeader&, const std::string& name) {
  fail("{}: is a WebP file, and this program was built without libwebp", name);
}

#endif

}  // namespace sextant::data
