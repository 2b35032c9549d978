// SPDX-License-Identifier: Apache-2.0
#include <jpeglib.h>

#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "core/error.h"
#include "core/file.h"
#include "data/image/image.h"

namespace sextant::data {
namespace {

struct Failure {
  jpeg_error_mgr manager{};
  std::jmp_buf back{};
  char why[JMSG_LENGTH_MAX] = "";
};

[[noreturn]] void jump_back(j_common_ptr encoder) {
  auto* failure = reinterpret_cast<Failure*>(encoder->err);
  encoder->err->format_message(encoder, failure->why);
  std::longjmp(failure->back, 1);
}

// The compressed bytes, from malloc(); null when libjpeg failed. Nothing here needs a destructor,
// since longjmp() would skip it.
uint8_t* compress(const Image& image, int quality, Failure& failure, unsigned long& size) {
  jpeg_compress_struct encoder;
  uint8_t* bytes = nullptr;
  encoder.err = jpeg_std_error(&failure.manager);
  failure.manager.error_exit = jump_back;
  if (setjmp(failure.back) != 0) {
    jpeg_destroy_compress(&encoder);
    std::free(bytes);
    return nullptr;
  }
  jpeg_create_compress(&encoder);
  jpeg_mem_dest(&encoder, &bytes, &size);
  encoder.image_width = static_cast<JDIMENSION>(image.width);
  encoder.image_height = static_cast<JDIMENSION>(image.height);
  encoder.input_components = 3;
  encoder.in_color_space = JCS_RGB;
  jpeg_set_defaults(&encoder);
  jpeg_set_quality(&encoder, quality, TRUE);
  jpeg_start_compress(&encoder, TRUE);
  while (encoder.next_scanline < encoder.image_height) {
    auto* row = const_cast<uint8_t*>(image.row(static_cast<int>(encoder.next_scanline)));
    jpeg_write_scanlines(&encoder, &row, 1);
  }
  jpeg_finish_compress(&encoder);
  jpeg_destroy_compress(&encoder);
  return bytes;
}

}  // namespace

std::vector<uint8_t> encode_jpeg(const Image& image, const std::string& name, int quality) {
  check_can_be_saved(name, image);
  Failure failure;
  unsigned long size = 0;
  const std::unique_ptr<uint8_t, decltype(&std::free)> bytes(
      compress(image, quality, failure, size), &std::free);
  check(bytes != nullptr, "{}: cannot encode the JPEG ({})", name, failure.why);
  return {bytes.get(), bytes.get() + size};
}

void save_jpeg(const std::filesystem::path& path, const Image& image, int quality) {
  const auto bytes = encode_jpeg(image, path.string(), quality);
  write_unflushed(path, std::as_bytes(std::span(bytes)));
}

}  // namespace sextant::data
