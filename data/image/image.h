// SPDX-License-Identifier: Apache-2.0
// Images in memory: 8-bit RGB, interleaved.
//
// RGB is the order everywhere in this engine: training, evaluation, calibration and deployment.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace sextant::data {

// `pixels` holds height * width * 3 bytes, row by row, R G B.
struct Image {
  int width = 0;
  int height = 0;
  std::vector<uint8_t> pixels;

  bool empty() const { return pixels.empty(); }
  int64_t pitch() const { return int64_t{3} * width; }  // bytes from one row to the next
  uint8_t* row(int y) { return pixels.data() + y * pitch(); }
  const uint8_t* row(int y) const { return pixels.data() + y * pitch(); }
};

// The grey around an image that does not fill its canvas, as in the official training.
inline constexpr uint8_t kPadValue = 114;

// An image of one grey level. Throws Error unless both sides are positive.
Image make_image(int width, int height, uint8_t value = 0);

// Limits for a file: the longest side, the number of pixels, and, above kFreePixels, the number of
// pixels per byte, so that a file of a few KB cannot take gigabytes.
inline constexpr int kMaxImageSide = 32768;
inline constexpr int64_t kMaxImagePixels = int64_t{1} << 28;
inline constexpr int64_t kFreePixels = int64_t{1} << 26;
inline constexpr uint64_t kMaxPixelsPerByte = 64;

// Decodes a JPEG, PNG or BMP file, and TIFF or WebP if the build has libtiff or libwebp. Grey
// becomes RGB, alpha is dropped, 16-bit becomes 8-bit, and a photograph with an Exif orientation is
// turned upright. Throws Error naming the file when it is missing, of another format, truncated,
// broken, or beyond the limits above.
Image load_image(const std::filesystem::path& path);

// The same from memory; messages call it `name`.
Image decode_image(std::span<const uint8_t> bytes, const std::string& name);

struct ImageSize {
  int width = 0;
  int height = 0;
  bool operator==(const ImageSize&) const = default;
};

// An image that is going to be resized to `least`: a JPEG is decoded at 1/2, 1/4 or 1/8 of its size
// when it is still at least that large, which is faster and averages over the pixels left out.
struct ReducedImage {
  Image image;
  ImageSize full;  // of decode_image()
};
ReducedImage decode_reduced(std::span<const uint8_t> bytes, const std::string& name,
                            ImageSize least);

// Width and height of load_image()'s result, from the file's header, without decoding. Throws as
// load_image().
ImageSize image_size(const std::filesystem::path& path);

// Whether the name ends in .jpg, .jpeg, .png, .bmp, .tif, .tiff or .webp, in either case.
bool is_image_name(const std::filesystem::path& path);

// The bytes of such a file; messages call it `name`. quality: 1 to 100, as in libjpeg.
std::vector<uint8_t> encode_png(const Image& image, const std::string& name);
std::vector<uint8_t> encode_jpeg(const Image& image, const std::string& name, int quality = 90);

// Written atomically (core/file.h). Throw Error naming the file.
void save_png(const std::filesystem::path& path, const Image& image);
void save_jpeg(const std::filesystem::path& path, const Image& image, int quality = 90);
// Throws Error naming the file if the image is empty or its pixels do not match its size.
void check_can_be_saved(const std::filesystem::path& path, const Image& image);

}  // namespace sextant::data
