// SPDX-License-Identifier: Apache-2.0
// The shared reference data, found by listing the folder: a test runs on all files of its kind it
// finds and takes counts and sizes from them. These functions skip the running test if they find no
// data.
#pragma once

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "core/json.h"
#include "support/support.h"

namespace sextant::test {

// A file or folder of the shared folder ("data/bccd").
inline std::optional<std::filesystem::path> shared_path(const std::string& name) {
  const auto shared = shared_folder();
  if (shared && std::filesystem::exists(*shared / name)) return *shared / name;
  skip(name + " is absent; set SEXTANT_SHARED");
  return std::nullopt;
}

// The files of a folder of it ("checkpoints") with this ending (".pt"), sorted.
inline std::vector<std::filesystem::path> shared_files(const std::string& folder,
                                                       const std::string& ending) {
  std::vector<std::filesystem::path> files;
  const auto path = shared_path(folder);
  if (!path) return files;
  for (const auto& entry : std::filesystem::directory_iterator(*path))
    if (entry.path().filename().string().ends_with(ending)) files.push_back(entry.path());
  if (files.empty()) skip(folder + "/*" + ending + " are absent");
  std::ranges::sort(files);
  return files;
}

// The folders of fixtures that a test of blocks or models goes through.
inline constexpr const char* kFixtures = "fixtures";
inline constexpr const char* kLiteFixtures = "fixtures_lite";

// The names of all shared fixtures that begin with `prefix` ("post/nms_"), sorted.
inline std::vector<std::string> fixture_names(const std::string& prefix) {
  const std::string folder = prefix.substr(0, prefix.find('/') + 1);
  std::vector<std::string> names;
  for (const auto& file : shared_files("fixtures/" + folder, ".safetensors"))
    if (const std::string name = folder + file.stem().string(); name.starts_with(prefix))
      names.push_back(name);
  if (names.empty()) skip("fixtures " + prefix + "* are absent; set SEXTANT_SHARED");
  return names;
}

// What lies between `begin` and `end` in the names of those tensors of `f` that have both, in the
// file's order: "a" and "b" of "amax.a", "amax.b" for "amax." and "". Fails when there are none.
inline std::vector<std::string> parts_of_names(const SafeTensors& f, const std::string& begin,
                                               const std::string& end) {
  std::vector<std::string> parts;
  for (const auto& [name, tensor] : f.tensors)
    if (name.size() >= begin.size() + end.size() && name.starts_with(begin) && name.ends_with(end))
      parts.push_back(name.substr(begin.size(), name.size() - begin.size() - end.size()));
  INFO(f.path << " has no tensor '" << begin << "*" << end << "'");
  CHECK_FALSE(parts.empty());
  return parts;
}

// Numbers in the metadata, as a list or a Python tuple: "1,2", "[1, 2]", "(1, 2)".
inline std::vector<double> meta_numbers(const SafeTensors& f, const std::string& key) {
  std::string list = f.meta(key);
  std::erase_if(list, [](char c) { return c == '(' || c == ')' || c == '[' || c == ']'; });
  return Json::parse("[" + list + "]").get<std::vector<double>>();
}

}  // namespace sextant::test
