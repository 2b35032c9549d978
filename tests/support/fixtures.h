// Fixtures by what is there, not by a list.
#pragma once

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "support/support.h"

namespace sextant::test {

// The names of all shared fixtures that begin with `prefix` ("post/nms_"), sorted, so that a test
// runs on whatever files of its kind are there; empty when the folder is absent.
inline std::vector<std::string> fixture_names(const std::string& prefix) {
  std::vector<std::string> out;
  const auto shared = shared_folder();
  const auto folder = std::filesystem::path(prefix).parent_path();
  if (!shared || !std::filesystem::is_directory(*shared / "fixtures" / folder)) return out;
  for (const auto& entry : std::filesystem::directory_iterator(*shared / "fixtures" / folder))
    if (const std::string name = (folder / entry.path().stem()).string();
        entry.path().extension() == ".safetensors" && name.starts_with(prefix))
      out.push_back(name);
  std::ranges::sort(out);
  return out;
}

}  // namespace sextant::test
