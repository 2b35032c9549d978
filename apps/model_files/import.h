// SPDX-License-Identifier: Apache-2.0
// Converts a file of the official YOLOv6 to a Sextant checkpoint.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "apps/model_files/checkpoint.h"

namespace sextant::apps {

struct ImportOptions {
  int64_t image_size = 0;                // 0: as in the official recipe
  std::vector<std::string> class_names;  // empty: from the file, else the class numbers
};
struct ImportedCheckpoint {
  SafeTensors state;
  CheckpointInfo info;
};
// Reads `from` (models/import/import_pt.h) and recognises the model. Throws Error naming the file.
ImportedCheckpoint import_weights_file(const std::filesystem::path& from,
                                       const ImportOptions& options);
// Whether a file's name is that of a PyTorch file: .pt or .pth.
bool is_torch_name(const std::filesystem::path& path);
// A checkpoint or deploy file, or an official .pt file as the checkpoint that it becomes.
SafeTensors load_weights(const std::filesystem::path& path);

struct ImportResult {
  CheckpointInfo info;
  size_t tensors = 0;
};
// The same, written as a checkpoint. Throws Error without writing anything.
ImportResult import_checkpoint(const std::filesystem::path& from, const std::filesystem::path& to,
                               const ImportOptions& options);

}  // namespace sextant::apps
