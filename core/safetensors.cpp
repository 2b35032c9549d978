#include "core/safetensors.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <set>

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

SafeTensors load_safetensors(const std::filesystem::path& path) {
  const std::vector<uint8_t> bytes = read_bytes(path);
  SafeTensors file;
  file.path = path.string();
  uint64_t header_size = 0;
  check(bytes.size() >= 8, "{}: is not a safetensors file ({} bytes)", file.path, bytes.size());
  std::memcpy(&header_size, bytes.data(), 8);
  check(header_size <= bytes.size() - 8, "{}: is not a safetensors file (header of {} bytes)",
        file.path, header_size);
  const uint8_t* data = bytes.data() + 8 + header_size;
  const uint64_t data_size = bytes.size() - 8 - header_size;
  std::set<std::string> seen;
  std::string now = "header";
  try {
    const auto header = Json::parse(bytes.data() + 8, data);
    check(header.is_object(), "{}: header is not a JSON object", file.path);
    for (const auto& [name, entry] : header.items()) {
      now = name;
      if (name == "__metadata__") {
        for (const auto& [k, v] : entry.items()) file.metadata[k] = v.get<std::string>();
        continue;
      }
      check(seen.insert(name).second, "{}: duplicate tensor '{}'", file.path, name);
      const DType dtype = from_name<DType>(entry.at("dtype").get<std::string>() == "BOOL"
                                               ? "U8"
                                               : entry.at("dtype").get<std::string>());
      const auto dims = entry.at("shape").get<std::vector<int64_t>>();
      const auto offsets = entry.at("data_offsets").get<std::array<uint64_t, 2>>();
      int64_t elements = 1;
      for (const int64_t d : dims)
        check(d >= 0 && !__builtin_mul_overflow(elements, d, &elements) &&
                  elements <= int64_t{1} << 48,
              "shape is out of range");
      check(offsets[0] <= offsets[1] && offsets[1] <= data_size,
            "data_offsets [{},{}] lie outside the data of {} bytes", offsets[0], offsets[1],
            data_size);
      check(static_cast<int64_t>(offsets[1] - offsets[0]) == elements * size_of(dtype),
            "{} bytes do not match dtype and shape", offsets[1] - offsets[0]);
      const Shape shape{std::span<const int64_t>(dims)};
      Tensor t(shape, dtype);
      std::memcpy(t.raw(), data + offsets[0], static_cast<size_t>(t.bytes()));
      file.add(name, t);
    }
  } catch (const std::exception& e) {
    fail("{}: '{}': {}", file.path, now, e.what());
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
  std::string text = header.dump();
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
