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
struct ImportResult {
  CheckpointInfo info;
  size_t tensors = 0;
};
// Reads `from` (models/import/import_pt.h), recognises the model and writes the checkpoint. Throws
// Error naming the file, without writing anything.
ImportResult import_checkpoint(const std::filesystem::path& from, const std::filesystem::path& to,
                               const ImportOptions& options);

}  // namespace sextant::apps
