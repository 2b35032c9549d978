// The safetensors format: 8-byte little-endian header length, JSON header (name, dtype, shape,
// data_offsets), raw little-endian data; strings under "__metadata__".
// https://huggingface.co/docs/safetensors, "Format".
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/tensor.h"

namespace sextant {

struct SafeTensors {
  // In file order. Shapes and layout as in the file (PyTorch's, by convention).
  std::vector<std::pair<std::string, Tensor>> tensors;
  std::map<std::string, std::string> metadata;
  std::string path;  // for messages

  // nullptr when absent.
  const Tensor* find(const std::string& name) const;
  // Throws Error naming file and tensor when absent.
  const Tensor& at(const std::string& name) const;
  const std::string& meta(const std::string& key) const;
  void add(std::string name, Tensor tensor) {
    tensors.emplace_back(std::move(name), std::move(tensor));
  }
};

// Throws Error naming file (and tensor) on anything malformed: a header longer than the file,
// offsets outside the data or not matching dtype and shape, an unknown dtype, a duplicate name.
SafeTensors load_safetensors(const std::filesystem::path& path);
// Written under a temporary name and renamed.
void save_safetensors(const std::filesystem::path& path, const SafeTensors& file);

}  // namespace sextant
