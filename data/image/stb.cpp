// SPDX-License-Identifier: Apache-2.0
#include <malloc.h>
#include <zlib.h>

#include <cstdlib>
#include <memory>

#include "core/error.h"
#include "core/file.h"
#include "data/image/codecs.h"
#include "data/image/png.h"

namespace {

// The memory that the decoder may still allocate on this thread. Allocations beyond it return a
// null pointer, which the decoder reports: a file cannot unpack to more than its size in pixels
// needs.
thread_local int64_t left_bytes = 0;

void* limited_malloc(size_t size) {
  if (static_cast<int64_t>(size) > left_bytes) return nullptr;
  void* p = std::malloc(size);
  if (p != nullptr) left_bytes -= static_cast<int64_t>(malloc_usable_size(p));
  return p;
}

void limited_free(void* p) {
  left_bytes += static_cast<int64_t>(malloc_usable_size(p));
  std::free(p);
}

void* limited_realloc(void* p, size_t size) {
  const auto before = static_cast<int64_t>(malloc_usable_size(p));
  if (static_cast<int64_t>(size) > left_bytes + before) return nullptr;
  void* moved = std::realloc(p, size);
  if (moved != nullptr) left_bytes += before - static_cast<int64_t>(malloc_usable_size(moved));
  return moved;
}

// zlib instead of stb_image_write's own compressor, which takes ten times as long. What repeats in
// photographs after a PNG filter is runs of one byte; looking for nothing else halves the time again.
unsigned char* zlib_compress(unsigned char* data, int size, int* compressed, int /*level*/) {
  constexpr int kFastest = 1, kWindowBits = 15, kMemory = 9;
  z_stream z{};
  if (deflateInit2(&z, kFastest, Z_DEFLATED, kWindowBits, kMemory, Z_RLE) != Z_OK) return nullptr;
  const uLong most = deflateBound(&z, static_cast<uLong>(size));
  auto* out = static_cast<unsigned char*>(std::malloc(most));
  z.next_in = data;
  z.avail_in = static_cast<uInt>(size);
  z.next_out = out;
  z.avail_out = static_cast<uInt>(most);
  const bool ok = out != nullptr && deflate(&z, Z_FINISH) == Z_STREAM_END;
  *compressed = static_cast<int>(z.total_out);
  deflateEnd(&z);
  if (ok) return out;
  std::free(out);
  return nullptr;
}

}  // namespace

#define STBIW_ZLIB_COMPRESS zlib_compress
#define STBI_ONLY_PNG
#define STBI_ONLY_BMP
#define STBI_NO_STDIO
#define STBI_MAX_DIMENSIONS 32768
#define STBI_FAILURE_USERMSG
#define STBI_MALLOC(size) limited_malloc(size)
#define STBI_REALLOC(p, size) limited_realloc(p, size)
#define STBI_FREE(p) limited_free(p)
#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION
#define STBI_WRITE_NO_STDIO
#define STB_IMAGE_WRITE_STATIC
#define STB_IMAGE_WRITE_IMPLEMENTATION
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#include <stb/stb_image.h>
#include <stb/stb_image_write.h>
#pragma GCC diagnostic pop

namespace sextant::data {
namespace {

static_assert(STBI_MAX_DIMENSIONS == kMaxImageSide);

const char* reason() {
  const char* why = stbi_failure_reason();
  return why != nullptr ? why : "unknown reason";
}

struct StbFree {
  void operator()(uint8_t* p) const { stbi_image_free(p); }
};

void append(void* context, void* data, int size) {
  auto& out = *static_cast<std::vector<uint8_t>*>(context);
  const auto* bytes = static_cast<const uint8_t*>(data);
  out.insert(out.end(), bytes, bytes + size);
}

// The decoder reads zeros past the end of a file.
void check_bmp_is_whole(std::span<const uint8_t> bytes, const ImageHeader& header,
                        const std::string& name) {
  const auto little = [&](size_t at, size_t size) {
    int64_t value = 0;
    for (size_t i = size; i-- > 0;) value = value << 8 | bytes[at + i];
    return value;
  };
  constexpr int64_t kOldHeader = 12;
  check(bytes.size() >= 30, "{}: the BMP file is cut off", name);
  const int64_t pixels_at = little(10, 4), bits = little(little(14, 4) == kOldHeader ? 24 : 28, 2);
  const int64_t row = (header.width * bits + 31) / 32 * 4;
  const int64_t last_row = (header.width * bits + 7) / 8;
  check(pixels_at + row * (header.height - 1) + last_row <= static_cast<int64_t>(bytes.size()),
        "{}: the BMP file is cut off", name);
}

}  // namespace

ImageHeader stb_header(std::span<const uint8_t> bytes, const std::string& name) {
  constexpr int64_t kHeaderBytes = 1 << 20;
  ImageHeader header;
  int width = 0, height = 0, channels = 0;
  left_bytes = kHeaderBytes;
  const int ok = stbi_info_from_memory(bytes.data(), static_cast<int>(bytes.size()), &width,
                                       &height, &channels);
  check(ok != 0, "{}: the image header is broken ({})", name, reason());
  header.width = width;
  header.height = height;
  return header;
}

Image stb_decode(std::span<const uint8_t> bytes, const ImageHeader& header,
                 const std::string& name) {
  if (is_bmp(bytes)) check_bmp_is_whole(bytes, header, name);
  // At most 22 bytes per pixel are in use at a time (an interlaced PNG with 16 bits), for sides
  // rounded up to the largest block of a JPEG.
  constexpr int64_t kBytesPerPixel = 24, kBlock = 32, kTables = 1 << 20;
  left_bytes = kBytesPerPixel * (header.width + kBlock) * (header.height + kBlock) +
               2 * static_cast<int64_t>(bytes.size()) + kTables;
  int width = 0, height = 0, channels = 0;
  const std::unique_ptr<uint8_t, StbFree> pixels(stbi_load_from_memory(
      bytes.data(), static_cast<int>(bytes.size()), &width, &height, &channels, 3));
  check(pixels != nullptr, "{}: the image does not decode ({})", name, reason());
  check(width == header.width && height == header.height,
        "{}: the image is {}x{}, its header says {}x{}", name, width, height, header.width,
        header.height);
  Image image{width, height, {}};
  image.pixels.assign(pixels.get(), pixels.get() + image.pitch() * height);
  return image;
}

bool is_bmp(std::span<const uint8_t> bytes) {
  return bytes.size() >= 2 && bytes[0] == 'B' && bytes[1] == 'M';
}

std::vector<uint8_t> encode_png(const Image& image, const std::string& name) {
  check_can_be_saved(name, image);
  std::vector<uint8_t> bytes;
  const int ok = stbi_write_png_to_func(append, &bytes, image.width, image.height, 3,
                                        image.pixels.data(), static_cast<int>(image.pitch()));
  check(ok != 0, "{}: cannot encode the PNG", name);
  return bytes;
}

void save_png(const std::filesystem::path& path, const Image& image) {
  const auto bytes = encode_png(image, path.string());
  write_unflushed(path, std::as_bytes(std::span(bytes)));
}

}  // namespace sextant::data
