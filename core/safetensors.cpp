// SPDX-License-Identifier: Apache-2.0
#include "core/safetensors.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "core/file.h"
#include "core/json.h"

namespace sextant {

const Tensor* SafeTensors::find(const std::string& name) const {
  for (const auto& [n, t] : tensors)
    if (n == name) return &t;
  return nullptr;
}

const Tensor& SafeTensors::at(const std::string& name) const {
  const Tensor* t = find(name);
  check(t != nullptr, "{}: has no tensor '{}'", path, name);
  return *t;
}

const std::string& SafeTensors::meta(const std::string& key) const {
  const auto it = metadata.find(key);
  check(it != metadata.end(), "{}: has no '{}' in __metadata__", path, key);
  return it->second;
}

namespace {

// What the file is instead, where that is known, and the way to a file of ours.
std::string other_format(std::span<const uint8_t> bytes) {
  // The length of our header may begin as any of these do, but the header itself is an object.
  if (bytes.size() > 8 && bytes[8] == '{') return {};
  const auto starts_with = [&](std::string_view magic) {
    return bytes.size() >= magic.size() &&
           std::memcmp(bytes.data(), magic.data(), magic.size()) == 0;
  };
  if (starts_with("PK\x03\x04") || starts_with("\x80\x02"))
    return "is a PyTorch file; `sextant import` makes a checkpoint of it";
  if (starts_with("\x08") && bytes.size() > 2 && bytes[2] == 0x12)
    return "is an ONNX model; `sextant import` makes a deploy file of it";
  return {};
}

struct Entry {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> dims;
  uint64_t begin = 0, end = 0;
};

template <class T>
T field(const Json& entry, const char* key) {
  T value{};
  check(entry.is_object() && entry.contains(key) && read_value(entry.at(key), value),
        "'{}' is missing or not what it must be", key);
  return value;
}

Entry read_entry(const std::string& name, const Json& json, uint64_t data_size) {
  Entry e;
  e.name = name;
  const auto dtype = field<std::string>(json, "dtype");
  e.dtype = from_name<DType>(dtype == "BOOL" ? "U8" : dtype);
  e.dims = field<std::vector<int64_t>>(json, "shape");
  const auto offsets = field<std::vector<uint64_t>>(json, "data_offsets");
  check(offsets.size() == 2, "'data_offsets' has {} numbers", offsets.size());
  e.begin = offsets[0];
  e.end = offsets[1];
  int64_t elements = 1;
  for (const int64_t d : e.dims)
    check(d >= 0 && !__builtin_mul_overflow(elements, d, &elements) && elements <= int64_t{1} << 48,
          "shape is out of range");
  check(e.begin <= e.end && e.end <= data_size,
        "data_offsets [{},{}] lie outside the data of {} bytes", e.begin, e.end, data_size);
  check(static_cast<int64_t>(e.end - e.begin) == elements * size_of(e.dtype),
        "{} bytes do not match dtype and shape", e.end - e.begin);
  return e;
}

// Tensors that share bytes would make of a small file a large one in memory.
void check_apart(std::vector<Entry> entries) {
  std::erase_if(entries, [](const Entry& e) { return e.begin == e.end; });
  std::ranges::sort(entries, {}, &Entry::begin);
  for (size_t i = 1; i < entries.size(); ++i)
    check(entries[i - 1].end <= entries[i].begin, "shares bytes of the data with tensor '{}'",
          entries[i - 1].name);
}

}  // namespace

SafeTensors load_safetensors(const std::filesystem::path& path) {
  return parse_safetensors(read_bytes(path), path.string());
}

SafeTensors parse_safetensors(std::span<const uint8_t> bytes, const std::string& where) {
  SafeTensors file;
  file.path = where;
  uint64_t header_size = 0;
  if (const std::string other = other_format(bytes); !other.empty()) fail("{}: {}", where, other);
  check(bytes.size() >= 8, "{}: is not a safetensors file ({} bytes)", where, bytes.size());
  std::memcpy(&header_size, bytes.data(), 8);
  check(header_size <= bytes.size() - 8 && header_size <= kMaxSafetensorsHeader,
        "{}: is not a safetensors file (header of {} bytes)", where, header_size);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + 8, header_size);
  const auto data = bytes.subspan(8 + header_size);
  const Json header = parse_json(text, where + ": the header");
  check(header.is_object(), "{}: the header is not a JSON object", where);
  std::vector<Entry> entries;
  std::string now;
  try {
    for (const auto& [name, json] : header.items()) {
      now = name;
      if (name == "__metadata__") {
        check(json.is_object(), "is not an object");
        for (const auto& [k, v] : json.items())
          check(read_value(v, file.metadata[k]), "'{}' is not a text", k);
      } else {
        entries.push_back(read_entry(name, json, data.size()));
      }
    }
    check_apart(entries);
    for (const Entry& e : entries) {
      now = e.name;
      const Tensor t(Shape{std::span<const int64_t>(e.dims)}, e.dtype);
      std::memcpy(t.raw(), data.data() + e.begin, static_cast<size_t>(t.bytes()));
      file.add(e.name, t);
    }
  } catch (const Error& e) {
    fail("{}: '{}': {}", where, now, e.what());
  }
  return file;
}

void save_safetensors(const std::filesystem::path& path, const SafeTensors& file) {
  Json header = Json::object();
  if (!file.metadata.empty()) header["__metadata__"] = file.metadata;
  uint64_t offset = 0;
  for (const auto& [name, t] : file.tensors) {
    const uint64_t end = offset + static_cast<uint64_t>(t.bytes());
    header[name] = {
        {"dtype", std::string(name_of(t.dtype()))},
        {"shape", std::vector<int64_t>(t.shape().dims().begin(), t.shape().dims().end())},
        {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = json_text(header);
  text.resize((text.size() + 7) / 8 * 8, ' ');  // data stays 8-byte aligned, as the format asks
  const uint64_t size = text.size();
  std::vector<std::span<const std::byte>> parts{std::as_bytes(std::span(&size, 1)),
                                                std::as_bytes(std::span(text))};
  std::vector<Tensor> on_host;
  for (const auto& [name, t] : file.tensors) {
    on_host.push_back(t.to(Device::kCpu));
    parts.emplace_back(static_cast<const std::byte*>(on_host.back().raw()),
                       static_cast<size_t>(t.bytes()));
  }
  write_atomically(path, parts);
}

}  // namespace sextant
