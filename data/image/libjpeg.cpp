// SPDX-License-Identifier: Apache-2.0
#include <cstdio>

// Need the declarations above them.
#include <jerror.h>
#include <jpeglib.h>

#include <algorithm>
#include <csetjmp>
#include <cstdlib>
#include <memory>

#include "core/error.h"
#include "core/file.h"
#include "data/image/codecs.h"
#include "data/image/image.h"
#include "data/image/jpeg.h"

namespace sextant::data {
namespace {

// libjpeg reports errors by calling error_exit(), which must not return. Nothing between setjmp()
// and longjmp() needs a destructor, since the jump would skip it.
struct Failure {
  jpeg_error_mgr manager{};
  std::jmp_buf back{};
  char why[JMSG_LENGTH_MAX] = "";
};

[[noreturn]] void jump_back(j_common_ptr codec) {
  auto* failure = reinterpret_cast<Failure*>(codec->err);
  codec->err->format_message(codec, failure->why);
  std::longjmp(failure->back, 1);
}

// libjpeg goes on after damage to the compressed data, with pixels that it makes up. An image with
// those is refused; a warning that leaves the pixels whole is not.
void refuse_damage(j_common_ptr codec, int level) {
  const int code = codec->err->msg_code;
  if (level < 0 && (code == JWRN_HIT_MARKER || code == JWRN_HUFF_BAD_CODE ||
                    code == JWRN_MUST_RESYNC || code == JWRN_JPEG_EOF))
    jump_back(codec);
}

void set_handlers(Failure& failure, jpeg_error_mgr*& of_codec) {
  of_codec = jpeg_std_error(&failure.manager);
  failure.manager.error_exit = jump_back;
  failure.manager.emit_message = refuse_damage;
}

// The compressed bytes, from malloc(); null when libjpeg failed.
uint8_t* compress(const Image& image, int quality, Failure& failure, unsigned long& size) {
  jpeg_compress_struct encoder;
  uint8_t* bytes = nullptr;
  set_handlers(failure, encoder.err);
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

// Four inks to RGB, in place of the first three quarters of a row. Adobe's files, nearly all there
// are, hold the inks inverted.
void cmyk_to_rgb(const uint8_t* inks, bool inverted, int width, uint8_t* rgb) {
  for (int x = 0; x < width; ++x)
    for (int c = 0; c < 3; ++c) {
      const int ink = inks[4 * x + c], black = inks[4 * x + 3];
      const int product = inverted ? ink * black : (255 - ink) * (255 - black);
      rgb[3 * x + c] = static_cast<uint8_t>((product + 127) / 255);
    }
}

// Fills `image`, whose size is the file's divided by `reduction`, rounded up. `inks`: a row of four
// bytes a pixel. False when libjpeg failed.
bool decompress(std::span<const uint8_t> bytes, int reduction, Failure& failure, uint8_t* inks,
                Image& image) {
  jpeg_decompress_struct decoder;
  set_handlers(failure, decoder.err);
  if (setjmp(failure.back) != 0) {
    jpeg_destroy_decompress(&decoder);
    return false;
  }
  jpeg_create_decompress(&decoder);
  jpeg_mem_src(&decoder, bytes.data(), static_cast<unsigned long>(bytes.size()));
  jpeg_read_header(&decoder, TRUE);
  const bool four = decoder.num_components == 4;
  decoder.out_color_space = four ? JCS_CMYK : JCS_RGB;
  decoder.scale_num = 1;
  decoder.scale_denom = static_cast<unsigned>(reduction);
  jpeg_start_decompress(&decoder);
  if (static_cast<int>(decoder.output_width) != image.width ||
      static_cast<int>(decoder.output_height) != image.height)
    ERREXIT(&decoder, JERR_CANT_SUSPEND);
  while (decoder.output_scanline < decoder.output_height) {
    uint8_t* to = image.row(static_cast<int>(decoder.output_scanline));
    uint8_t* row = four ? inks : to;
    jpeg_read_scanlines(&decoder, &row, 1);
    if (four) cmyk_to_rgb(inks, decoder.saw_Adobe_marker != FALSE, image.width, to);
  }
  jpeg_finish_decompress(&decoder);
  jpeg_destroy_decompress(&decoder);
  return true;
}

}  // namespace

Image jpeg_decode(std::span<const uint8_t> bytes, const ImageHeader& header,
                  const std::string& name, int reduction) {
  check_jpeg_is_whole(bytes, header, name);
  const auto reduced = [&](int64_t side) {
    return static_cast<int>((side + reduction - 1) / reduction);
  };
  Image image{reduced(header.width), reduced(header.height), {}};
  image.pixels.resize(static_cast<size_t>(image.pitch() * image.height));
  std::vector<uint8_t> inks(4 * static_cast<size_t>(image.width));
  Failure failure;
  check(decompress(bytes, reduction, failure, inks.data(), image),
        "{}: the image does not decode ({})", name, failure.why);
  return image;
}

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
