// SPDX-License-Identifier: Apache-2.0
#include "core/npy.h"

#include <charconv>
#include <cstring>
#include <string>
#include <string_view>

#include "core/error.h"
#include "core/file.h"
#include "core/text.h"

namespace sextant {
namespace {

constexpr std::string_view kMagic("\x93NUMPY", 6);

// What follows `key` in the header, a Python dictionary: {'descr': '<f4', 'fortran_order': False,
// 'shape': (1, 3, 16, 24), }
std::string_view value_of(std::string_view header, std::string_view key) {
  const size_t at = header.find(key);
  if (at == std::string_view::npos) return "";
  const std::string_view rest = header.substr(at + key.size());
  const size_t from = rest.find_first_not_of(" :");
  return from == std::string_view::npos ? "" : rest.substr(from);
}

// "(1, 3, 16, 24)", "(7,)", "()"
Shape parse_shape(std::string_view text, const std::string& name) {
  std::vector<int64_t> dims;
  int64_t count = 1;
  const auto skip = [&] {
    while (!text.empty() && (text[0] == ' ' || text[0] == ',')) text.remove_prefix(1);
  };
  check(!text.empty() && text[0] == '(', "{}: the .npy header has no shape", name);
  for (text.remove_prefix(1), skip(); !text.empty() && text[0] != ')'; skip()) {
    int64_t dim = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), dim);
    constexpr int64_t kMostValues = int64_t{1} << 33;
    check(error == std::errc() && dim >= 0 && dims.size() < 8 &&
              (dim == 0 || count <= kMostValues / dim),
          "{}: the shape in the .npy header is out of bounds", name);
    count *= dim;
    dims.push_back(dim);
    text.remove_prefix(static_cast<size_t>(end - text.data()));
  }
  check(!text.empty(), "{}: the shape in the .npy header is cut off", name);
  return Shape(std::span<const int64_t>(dims));
}

}  // namespace

Tensor load_npy(const std::filesystem::path& path) {
  const std::string name = path.string();
  const std::vector<uint8_t> bytes = read_bytes(path);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  constexpr size_t kVersionAt = 6, kShortStart = 10, kLongStart = 12;
  check(text.starts_with(kMagic) && bytes.size() >= kLongStart, "{}: is not a .npy file", name);
  const int version = bytes[kVersionAt];
  check(version >= 1 && version <= 3, "{}: .npy version {} is not supported", name, version);
  size_t length = bytes[8] | static_cast<size_t>(bytes[9]) << 8;
  if (version > 1)
    length |= static_cast<size_t>(bytes[10]) << 16 | static_cast<size_t>(bytes[11]) << 24;
  const size_t start = version == 1 ? kShortStart : kLongStart;
  check(length <= bytes.size() - start, "{}: the .npy header is cut off", name);
  const std::string_view header = text.substr(start, length);
  const std::string_view type = value_of(header, "'descr'").substr(0, 5);
  check(type == "'<f4'", "{}: holds values of type {}, must be '<f4' (float32)", name,
        printable(type));
  check(value_of(header, "'fortran_order'").starts_with("False"),
        "{}: is in Fortran order; save np.ascontiguousarray() of it", name);
  const Shape shape = parse_shape(value_of(header, "'shape'"), name);
  const auto wanted = static_cast<size_t>(shape.numel()) * sizeof(float);
  check(bytes.size() - start - length == wanted,
        "{}: holds {} bytes of values, its shape {} takes {}", name, bytes.size() - start - length,
        shape.str(), wanted);
  Tensor t(shape);
  std::memcpy(t.raw(), bytes.data() + start + length, wanted);
  return t;
}

void save_npy(const std::filesystem::path& path, const Tensor& t) {
  std::string dims;
  for (int i = 0; i < t.shape().rank(); ++i) dims += std::to_string(t.dim(i)) + ",";
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (" + dims + "), }";
  // Values begin at a multiple of 64 bytes, behind a line break.
  constexpr size_t kStart = 10, kAlign = 64;
  header.append(kAlign - (kStart + header.size() + 1) % kAlign, ' ');
  header += '\n';
  std::string text(kMagic);
  text += {'\x01', '\x00', static_cast<char>(header.size() & 0xff),
           static_cast<char>(header.size() >> 8)};
  text += header;
  text.append(reinterpret_cast<const char*>(t.f32()), static_cast<size_t>(t.bytes()));
  write_atomically(path, text);
}

}  // namespace sextant
