// SPDX-License-Identifier: Apache-2.0
// The safetensors format: 8-byte little-endian header length, JSON header (name, dtype, shape,
// data_offsets), raw little-endian data; strings under "__metadata__".
// https://huggingface.co/docs/safetensors, "Format".
#pragma once

#include <filesystem>
#include <map>
#include <span>
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

// The format's own limit.
inline constexpr uint64_t kMaxSafetensorsHeader = 100'000'000;

// Throws Error naming file (and tensor) on anything malformed: a header longer than the file,
// offsets outside the data or not matching dtype and shape, tensors that share bytes, an unknown
// dtype, a duplicate name. Says so when it is a PyTorch or ONNX file.
SafeTensors load_safetensors(const std::filesystem::path& path);
// The same from memory; `where` is what messages call it.
SafeTensors parse_safetensors(std::span<const uint8_t> bytes, const std::string& where);
// Written under a temporary name and renamed.
void save_safetensors(const std::filesystem::path& path, const SafeTensors& file);

}  // namespace sextant
