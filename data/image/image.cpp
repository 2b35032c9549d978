// SPDX-License-Identifier: Apache-2.0
#include "data/image/image.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <string_view>

#include "core/error.h"
#include "core/file.h"
#include "core/text.h"
#include "data/image/codecs.h"
#include "data/image/exif.h"
#include "data/image/jpeg.h"
#include "data/image/png.h"

namespace sextant::data {
namespace {

void check_size(const ImageHeader& header, uint64_t file_bytes, const std::string& name) {
  const auto [width, height, orientation] = header;
  check(width > 0 && height > 0, "{}: the image has size {}x{}", name, width, height);
  check(width <= kMaxImageSide && height <= kMaxImageSide && width * height <= kMaxImagePixels,
        "{}: the image is {}x{}; at most {} pixels a side and {} in all are read", name, width,
        height, kMaxImageSide, kMaxImagePixels);
  check(width * height <= kFreePixels ||
            static_cast<uint64_t>(width * height) <= kMaxPixelsPerByte * file_bytes,
        "{}: the image is {}x{} in a file of {} bytes; above {} pixels at most {} a byte are read",
        name, width, height, file_bytes, kFreePixels, kMaxPixelsPerByte);
}

void check_format(std::span<const uint8_t> bytes, const std::string& name) {
  check(!bytes.empty(), "{}: the file is empty", name);
  check(is_jpeg(bytes) || is_png(bytes) || is_bmp(bytes) || is_tiff(bytes) || is_webp(bytes),
        "{}: neither a JPEG nor a PNG, BMP, TIFF or WebP file", name);
  check(bytes.size() <= static_cast<size_t>(INT32_MAX), "{}: the file is larger than 2 GiB", name);
}

ImageHeader png_header(const ReadAt& read, std::span<const uint8_t> start,
                       const std::string& name) {
  PngHeader png;
  check(read_png_header(read, png), "{}: the image header is broken", name);
  const ImageHeader header{png.width, png.height, png.orientation};
  // The decoder gives better messages about the header, except for a size that it finds too large.
  if (png.width > 0 && png.height > 0 && std::max(png.width, png.height) <= kMaxImageSide &&
      png.width * png.height <= kMaxImagePixels)
    stb_header(start, name);
  return header;
}

// From a whole file in memory.
ImageHeader header_of(std::span<const uint8_t> bytes, const std::string& name) {
  check_format(bytes, name);
  if (is_tiff(bytes)) return tiff_header(bytes, name);
  if (is_webp(bytes)) return webp_header(bytes, name);
  if (is_jpeg(bytes)) return jpeg_header(bytes, name);
  if (!is_png(bytes)) return stb_header(bytes, name);
  const auto read = [&](uint64_t at, std::span<uint8_t> to) {
    if (at > bytes.size() || bytes.size() - at < to.size()) return false;
    std::ranges::copy(bytes.subspan(at, to.size()), to.begin());
    return true;
  };
  return png_header(read, bytes, name);
}

// From a file on disk, reading no more than necessary.
ImageHeader header_of(const std::filesystem::path& path, uint64_t file_bytes) {
  const std::string name = path.string();
  std::ifstream in(path, std::ios::binary);
  check(in.good(), "{}: cannot be opened", name);
  // The frame header of a JPEG follows its metadata, which can be long.
  constexpr size_t kHead = size_t{1} << 16;
  std::vector<uint8_t> head(std::min<uint64_t>(kHead, file_bytes));
  in.read(reinterpret_cast<char*>(head.data()), static_cast<std::streamsize>(head.size()));
  head.resize(static_cast<size_t>(in.gcount()));
  if (head.size() == file_bytes) return header_of(head, name);
  if (is_png(head)) {
    const auto read = [&](uint64_t at, std::span<uint8_t> to) {
      if (at + to.size() <= head.size()) {
        std::ranges::copy(std::span(head).subspan(at, to.size()), to.begin());
        return true;
      }
      in.clear();
      in.seekg(static_cast<std::streamoff>(at));
      in.read(reinterpret_cast<char*>(to.data()), static_cast<std::streamsize>(to.size()));
      return static_cast<size_t>(in.gcount()) == to.size();
    };
    return png_header(read, head, name);
  }
  const bool whole = is_tiff(head) || is_webp(head) ||
                     (is_jpeg(head) && look_at_jpeg(head, true).state == JpegState::kCutOff);
  return header_of(whole ? read_bytes(path) : head, name);
}

ImageSize upright_size(const ImageHeader& h) {
  const int width = static_cast<int>(h.width), height = static_cast<int>(h.height);
  return swaps_sides(h.orientation) ? ImageSize{height, width} : ImageSize{width, height};
}

}  // namespace

Image make_image(int width, int height, uint8_t value) {
  check(width > 0 && height > 0, "image: size {}x{} is not positive", width, height);
  Image image{width, height, {}};
  image.pixels.assign(static_cast<size_t>(image.pitch() * height), value);
  return image;
}

void check_can_be_saved(const std::filesystem::path& path, const Image& image) {
  check(image.width > 0 && image.height > 0 &&
            static_cast<int64_t>(image.pixels.size()) == image.pitch() * image.height,
        "{}: cannot save an image of {}x{} with {} bytes", path.string(), image.width, image.height,
        image.pixels.size());
}

ReducedImage decode_reduced(std::span<const uint8_t> bytes, const std::string& name,
                            ImageSize least) {
  const ImageHeader header = header_of(bytes, name);
  check_size(header, bytes.size(), name);
  const ImageSize full = upright_size(header);
  int reduction = 1;
  while (reduction < 8 && full.width >= 2 * reduction * int64_t{least.width} &&
         full.height >= 2 * reduction * int64_t{least.height})
    reduction *= 2;
  Image image = is_tiff(bytes)   ? tiff_decode(bytes, header, name)
                : is_webp(bytes) ? webp_decode(bytes, header, name)
                : is_jpeg(bytes) ? jpeg_decode(bytes, header, name, reduction)
                                 : stb_decode(bytes, header, name);
  return {upright(std::move(image), header.orientation), full};
}

Image decode_image(std::span<const uint8_t> bytes, const std::string& name) {
  return decode_reduced(bytes, name, {kMaxImageSide, kMaxImageSide}).image;
}

Image load_image(const std::filesystem::path& path) {
  return decode_image(read_bytes(path), path.string());
}

ImageSize image_size(const std::filesystem::path& path) {
  struct stat info {};
  check(::stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode), "{}: no such file",
        path.string());
  const auto file_bytes = static_cast<uint64_t>(info.st_size);
  const ImageHeader header = header_of(path, file_bytes);
  check_size(header, file_bytes, path.string());
  return upright_size(header);
}

bool is_image_name(const std::filesystem::path& path) {
  const std::string extension = lower_ascii(path.extension().string());
  constexpr std::array<std::string_view, 7> kExtensions{".jpg", ".jpeg", ".png", ".bmp",
                                                        ".tif", ".tiff", ".webp"};
  return std::ranges::find(kExtensions, extension) != kExtensions.end();
}

}  // namespace sextant::data
