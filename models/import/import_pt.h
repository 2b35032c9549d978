// SPDX-License-Identifier: Apache-2.0
// Reads weights from files of the official YOLOv6 project.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/safetensors.h"

namespace sextant {

struct ImportedWeights {
  // The state dict: official names, order and layouts; f32, except for the counters (i64). No
  // metadata.
  SafeTensors state;
  std::vector<std::string> class_names;  // empty when the file has none
  std::string block;                     // Python class of backbone.stem; empty for a state dict
  int64_t epoch = -1;
};

// Reads a .pt file of a training run ({"model", "ema", "epoch", ...}; the moving average is
// preferred, as in the official evaluation), of a module, or of a state dict, or a .safetensors
// file of a state dict, with the class names as a JSON list under __metadata__["class_names"], if
// any. Nothing in a file is executed (models/import/pickle.h). The names it may
// hold are those of PyTorch's and YOLOv6's modules and of what the official trainer stores with
// them. Throws Error naming the file, and the module or tensor.
ImportedWeights import_weights(const std::filesystem::path& path);
// The same from the bytes of a .pt file; `path` is for messages.
ImportedWeights import_torch(std::vector<uint8_t> bytes, const std::string& path);

}  // namespace sextant
