#include "data/image/image.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <memory>
#include <string_view>
#include <utility>

#include "core/error.h"
#include "core/file.h"
#include "data/image/jpeg.h"

#define STBI_ONLY_JPEG
#define STBI_ONLY_PNG
#define STBI_NO_STDIO
#define STBI_MAX_DIMENSIONS 32768
#define STBI_FAILURE_USERMSG
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

constexpr std::array<uint8_t, 8> kPngSignature{0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};

bool starts_with(std::span<const uint8_t> bytes, std::span<const uint8_t> prefix) {
  return bytes.size() >= prefix.size() && std::equal(prefix.begin(), prefix.end(), bytes.begin());
}

const char* reason() {
  const char* why = stbi_failure_reason();
  return why != nullptr ? why : "unknown reason";
}

void check_size(int64_t width, int64_t height, const std::string& name) {
  check(width > 0 && height > 0, "{}: the image has size {}x{}", name, width, height);
  check(width <= kMaxImageSide && height <= kMaxImageSide && width * height <= kMaxImagePixels,
        "{}: the image is {}x{}; at most {} pixels a side and {} in all are read", name, width,
        height, kMaxImageSide, kMaxImagePixels);
}

// The size in the first chunk of a PNG; 1x1 for anything else.
std::pair<int64_t, int64_t> png_size(std::span<const uint8_t> bytes) {
  if (!starts_with(bytes, kPngSignature) || bytes.size() < 24) return {1, 1};
  auto number = [&](size_t at) {
    return int64_t{bytes[at]} << 24 | int64_t{bytes[at + 1]} << 16 | int64_t{bytes[at + 2]} << 8 |
           int64_t{bytes[at + 3]};
  };
  return {number(16), number(20)};
}

ImageSize header_size(std::span<const uint8_t> bytes, const std::string& name) {
  check(!bytes.empty(), "{}: the file is empty", name);
  check(is_jpeg(bytes) || starts_with(bytes, kPngSignature), "{}: neither a JPEG nor a PNG file",
        name);
  check(bytes.size() <= static_cast<size_t>(INT32_MAX), "{}: the file is larger than 2 GiB", name);
  if (is_jpeg(bytes))
    check(check_jpeg(bytes, true) == JpegState::kGood, "{}: the image header is broken", name);
  int width = 0;
  int height = 0;
  int channels = 0;
  const bool ok = stbi_info_from_memory(bytes.data(), static_cast<int>(bytes.size()), &width,
                                        &height, &channels) != 0;
  if (!ok) {
    // The decoder does not say which size it found too large.
    const auto [w, h] = png_size(bytes);
    check_size(w, h, name);
    fail("{}: the image header is broken ({})", name, reason());
  }
  check_size(width, height, name);
  return {width, height};
}

// Up to `limit` bytes from the start of a file.
std::vector<uint8_t> read_head(const std::filesystem::path& path, size_t limit) {
  std::error_code ec;
  check(std::filesystem::is_regular_file(path, ec), "{}: is not there", path.string());
  std::ifstream in(path, std::ios::binary);
  check(in.good(), "{}: cannot be opened", path.string());
  std::vector<uint8_t> bytes(limit);
  in.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(limit));
  bytes.resize(static_cast<size_t>(in.gcount()));
  return bytes;
}

struct StbFree {
  void operator()(uint8_t* p) const { stbi_image_free(p); }
};

void append(void* context, void* data, int size) {
  auto& out = *static_cast<std::vector<uint8_t>*>(context);
  const auto* bytes = static_cast<const uint8_t*>(data);
  out.insert(out.end(), bytes, bytes + size);
}

}  // namespace

Image make_image(int width, int height, uint8_t value) {
  check(width > 0 && height > 0, "image: size {}x{} is not positive", width, height);
  Image image{width, height, {}};
  image.pixels.assign(static_cast<size_t>(image.pitch() * height), value);
  return image;
}

Image decode_image(std::span<const uint8_t> bytes, const std::string& name) {
  const ImageSize size = header_size(bytes, name);
  if (is_jpeg(bytes)) {
    const JpegState state = check_jpeg(bytes, false);
    check(state != JpegState::kCutOff, "{}: the JPEG file is cut off", name);
    check(state == JpegState::kGood, "{}: the image does not decode (broken Huffman table)", name);
  }
  int width = 0;
  int height = 0;
  int channels = 0;
  const std::unique_ptr<uint8_t, StbFree> pixels(stbi_load_from_memory(
      bytes.data(), static_cast<int>(bytes.size()), &width, &height, &channels, 3));
  check(pixels != nullptr, "{}: the image does not decode ({})", name, reason());
  check(width == size.width && height == size.height,
        "{}: the image is {}x{}, its header says {}x{}", name, width, height, size.width,
        size.height);
  Image image{width, height, {}};
  image.pixels.assign(pixels.get(), pixels.get() + image.pitch() * height);
  return image;
}

Image load_image(const std::filesystem::path& path) {
  return decode_image(read_bytes(path), path.string());
}

ImageSize image_size(const std::filesystem::path& path) {
  // The frame header of a JPEG stands behind its metadata, which can be long.
  constexpr size_t kHead = size_t{1} << 16;
  std::vector<uint8_t> bytes = read_head(path, kHead);
  if (bytes.size() == kHead && is_jpeg(bytes) && check_jpeg(bytes, true) == JpegState::kCutOff)
    bytes = read_bytes(path);
  return header_size(bytes, path.string());
}

bool is_image_name(const std::filesystem::path& path) {
  std::string extension = path.extension().string();
  std::ranges::transform(extension, extension.begin(), [](unsigned char c) {
    return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  });
  return extension == ".jpg" || extension == ".jpeg" || extension == ".png";
}

void save_png(const std::filesystem::path& path, const Image& image) {
  check(image.width > 0 && image.height > 0 &&
            static_cast<int64_t>(image.pixels.size()) == image.pitch() * image.height,
        "{}: an image of {}x{} with {} bytes cannot be saved", path.string(), image.width,
        image.height, image.pixels.size());
  std::vector<uint8_t> bytes;
  const int ok = stbi_write_png_to_func(append, &bytes, image.width, image.height, 3,
                                        image.pixels.data(), static_cast<int>(image.pitch()));
  check(ok != 0, "{}: the PNG cannot be made", path.string());
  write_atomically(path,
                   std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

}  // namespace sextant::data
