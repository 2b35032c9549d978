// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "data/image/codecs.h"

#ifdef SEXTANT_TIFF
#include <dlfcn.h>
#include <tiffio.h>
#endif

namespace sextant::data {

bool is_tiff(std::span<const uint8_t> bytes) {
  if (bytes.size() < 4) return false;
  const std::string_view start(reinterpret_cast<const char*>(bytes.data()), 4);
  using namespace std::string_view_literals;
  return start == "II*\0"sv || start == "MM\0*"sv || start == "II+\0"sv || start == "MM\0+"sv;
}

#ifdef SEXTANT_TIFF

namespace {

// A function of a library, of the type that it is assigned to.
struct Symbol {
  void* address;
  template <class F>
  operator F*() const {  // NOLINT: implicit
    return reinterpret_cast<F*>(address);
  }
};

// libtiff, opened by the first TIFF file: it and the libraries that it needs are as large as
// sextant-infer, and few images are TIFF files.
class Library {
 public:
  std::string missing;  // why it cannot be used

 private:
  void* handle_ = dlopen(SEXTANT_TIFF, RTLD_NOW | RTLD_LOCAL);

  Symbol find(const char* name) {
    void* const address = handle_ != nullptr ? dlsym(handle_, name) : nullptr;
    if (address == nullptr && missing.empty()) missing = dlerror();
    return {address};
  }

 public:
  decltype(&::TIFFOpenOptionsAlloc) TIFFOpenOptionsAlloc = find("TIFFOpenOptionsAlloc");
  decltype(&::TIFFOpenOptionsFree) TIFFOpenOptionsFree = find("TIFFOpenOptionsFree");
  decltype(&::TIFFOpenOptionsSetErrorHandlerExtR) TIFFOpenOptionsSetErrorHandlerExtR =
      find("TIFFOpenOptionsSetErrorHandlerExtR");
  decltype(&::TIFFOpenOptionsSetWarningHandlerExtR) TIFFOpenOptionsSetWarningHandlerExtR =
      find("TIFFOpenOptionsSetWarningHandlerExtR");
  decltype(&::TIFFOpenOptionsSetMaxSingleMemAlloc) TIFFOpenOptionsSetMaxSingleMemAlloc =
      find("TIFFOpenOptionsSetMaxSingleMemAlloc");
  decltype(&::TIFFClientOpenExt) TIFFClientOpenExt = find("TIFFClientOpenExt");
  decltype(&::TIFFClose) TIFFClose = find("TIFFClose");
  decltype(&::TIFFGetField) TIFFGetField = find("TIFFGetField");
  decltype(&::TIFFGetFieldDefaulted) TIFFGetFieldDefaulted = find("TIFFGetFieldDefaulted");
  decltype(&::TIFFSetField) TIFFSetField = find("TIFFSetField");
  decltype(&::TIFFRGBAImageOK) TIFFRGBAImageOK = find("TIFFRGBAImageOK");
  decltype(&::TIFFReadRGBAImageOriented) TIFFReadRGBAImageOriented =
      find("TIFFReadRGBAImageOriented");
};

const Library& libtiff(const std::string& name) {
  static const Library library;
  check(library.missing.empty(), "{}: is a TIFF file, and libtiff cannot be used ({})", name,
        library.missing);
  return library;
}

// A file in memory, and the last message of the library.
struct Memory {
  std::span<const uint8_t> bytes;
  uint64_t at = 0;
  std::string said;
};

Memory& of(thandle_t handle) { return *static_cast<Memory*>(handle); }

tmsize_t read(thandle_t handle, void* to, tmsize_t size) {
  Memory& m = of(handle);
  const uint64_t left = m.bytes.size() - std::min<uint64_t>(m.at, m.bytes.size());
  const uint64_t n = std::min(left, static_cast<uint64_t>(std::max<tmsize_t>(size, 0)));
  if (n > 0) std::memcpy(to, m.bytes.data() + m.at, n);
  m.at += n;
  return static_cast<tmsize_t>(n);
}
tmsize_t refuse_write(thandle_t, void*, tmsize_t) { return 0; }
toff_t seek(thandle_t handle, toff_t offset, int whence) {
  Memory& m = of(handle);
  m.at = whence == SEEK_SET ? offset : whence == SEEK_CUR ? m.at + offset : m.bytes.size() + offset;
  return m.at;
}
int close(thandle_t) { return 0; }
toff_t size(thandle_t handle) { return of(handle).bytes.size(); }

int keep_error(TIFF*, void* memory, const char* /*module*/, const char* format, va_list args) {
  std::array<char, 256> text{};
  std::vsnprintf(text.data(), text.size(), format, args);
  static_cast<Memory*>(memory)->said = text.data();
  return 1;
}
int drop_warning(TIFF*, void*, const char*, const char*, va_list) { return 1; }

using Tiff = std::unique_ptr<TIFF, decltype(&TIFFClose)>;

Tiff open(const Library& lib, Memory& memory, int64_t largest_block, const std::string& name) {
  const std::unique_ptr<TIFFOpenOptions, decltype(&TIFFOpenOptionsFree)> options(
      lib.TIFFOpenOptionsAlloc(), lib.TIFFOpenOptionsFree);
  lib.TIFFOpenOptionsSetErrorHandlerExtR(options.get(), keep_error, &memory);
  lib.TIFFOpenOptionsSetWarningHandlerExtR(options.get(), drop_warning, nullptr);
  lib.TIFFOpenOptionsSetMaxSingleMemAlloc(options.get(), largest_block);
  // m: not memory-mapped; the file is already in memory.
  Tiff tiff(lib.TIFFClientOpenExt("image", "rm", &memory, read, refuse_write, seek, close, size,
                                  nullptr, nullptr, options.get()),
            lib.TIFFClose);
  check(tiff != nullptr, "{}: the image header is broken ({})", name, memory.said);
  return tiff;
}

}  // namespace

ImageHeader tiff_header(std::span<const uint8_t> bytes, const std::string& name) {
  const Library& lib = libtiff(name);
  Memory memory{bytes, 0, {}};
  const Tiff tiff = open(lib, memory, static_cast<int64_t>(bytes.size()) + (1 << 20), name);
  uint32_t width = 0, height = 0;
  uint16_t orientation = 1;
  check(lib.TIFFGetField(tiff.get(), TIFFTAG_IMAGEWIDTH, &width) == 1 &&
            lib.TIFFGetField(tiff.get(), TIFFTAG_IMAGELENGTH, &height) == 1,
        "{}: the image header is broken (no size)", name);
  lib.TIFFGetFieldDefaulted(tiff.get(), TIFFTAG_ORIENTATION, &orientation);
  return {width, height, orientation >= 1 && orientation <= 8 ? orientation : 1};
}

Image tiff_decode(std::span<const uint8_t> bytes, const ImageHeader& header,
                  const std::string& name) {
  constexpr int64_t kBytesPerPixel = 16;
  const Library& lib = libtiff(name);
  Memory memory{bytes, 0, {}};
  const Tiff tiff = open(lib, memory,
                         kBytesPerPixel * header.width * header.height +
                             static_cast<int64_t>(bytes.size()) + (1 << 20),
                         name);
  // As stored; all formats are turned in one place.
  lib.TIFFSetField(tiff.get(), TIFFTAG_ORIENTATION, ORIENTATION_TOPLEFT);
  std::array<char, 1024> why{};
  check(lib.TIFFRGBAImageOK(tiff.get(), why.data()) == 1, "{}: the image does not decode ({})",
        name, why.data());
  std::vector<uint32_t> pixels(static_cast<size_t>(header.width * header.height));
  const int ok = lib.TIFFReadRGBAImageOriented(tiff.get(), static_cast<uint32_t>(header.width),
                                               static_cast<uint32_t>(header.height), pixels.data(),
                                               ORIENTATION_TOPLEFT, /*stop on error*/ 1);
  check(ok == 1, "{}: the image does not decode ({})", name, memory.said);
  Image image = make_image(static_cast<int>(header.width), static_cast<int>(header.height));
  uint8_t* to = image.pixels.data();
  for (const uint32_t pixel : pixels) {
    *to++ = static_cast<uint8_t>(TIFFGetR(pixel));
    *to++ = static_cast<uint8_t>(TIFFGetG(pixel));
    *to++ = static_cast<uint8_t>(TIFFGetB(pixel));
  }
  return image;
}

#else

ImageHeader tiff_header(std::span<const uint8_t>, const std::string& name) {
  fail("{}: is a TIFF file, and this program was built without libtiff", name);
}
Image tiff_decode(std::span<const uint8_t>, const ImageHeader&, const std::string& name) {
  fail("{}: is a TIFF file, and this program was built without libtiff", name);
}

#endif

}  // namespace sextant::data
