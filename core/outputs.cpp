// SPDX-License-Identifier: Apache-2.0
#include "core/outputs.h"

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <map>

#include "core/error.h"
#include "core/file.h"

namespace sextant {
namespace {

namespace fs = std::filesystem;

// The same for all names of a file; "" for what is no regular file.
std::string identity(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) == 0)
    return S_ISREG(info.st_mode) ? fmt::format("{}:{}", info.st_dev, info.st_ino) : "";
  std::error_code ec;
  const fs::path target = fs::absolute(link_target(path), ec);
  return fs::weakly_canonical(target, ec).string();
}

// Whether a path is, or would be, among what the data set in a folder consists of.
bool is_part_of(const fs::path& dataset, const std::string& file) {
  std::error_code ec;
  if (!fs::is_directory(dataset, ec)) return false;
  const fs::path inside = fs::weakly_canonical(fs::absolute(file, ec), ec)
                              .lexically_relative(fs::weakly_canonical(dataset, ec));
  if (inside.empty()) return false;
  const std::string first = inside.begin()->string();
  for (const char* description : {"classes.json", "dataset.json", "data.yaml", "data.yml"})
    if (inside == description) return true;
  for (const char* folder :
       {"images", "labels", "annotations", "JPEGImages", "Annotations", "ImageSets"})
    if (first == folder) return true;
  return false;
}

// The folders above a file are made where they are missing.
void check_place(const std::string& name) {
  std::error_code ec;
  fs::path above = fs::absolute(link_target(name), ec).parent_path();
  while (!fs::exists(above, ec) && above.has_relative_path()) above = above.parent_path();
  check(fs::is_directory(above, ec), "{}: cannot be written: {} is not a folder", name,
        above.string());
  check(::access(above.c_str(), W_OK | X_OK) == 0, "{}: cannot be written: {} is write-protected",
        name, above.string());
}

}  // namespace

void check_outputs(const Files& files) {
  for (const auto* list : {&files.outputs, &files.folders})
    for (const std::string& name : *list) check_place(name);
  std::map<std::string, std::string> inputs, outputs;  // identity -> name
  for (const auto* list : {&files.inputs, &files.datasets})
    for (const std::string& name : *list)
      if (const std::string id = identity(name); !id.empty()) inputs.emplace(id, name);
  for (const std::string& name : files.outputs) {
    const std::string id = identity(name);
    if (id.empty()) continue;
    if (const auto same = inputs.find(id); same != inputs.end())
      fail("{}: is read as {}, and would be overwritten; write to another file", name,
           same->second == name ? "an input" : same->second);
    if (const auto [same, fresh] = outputs.emplace(id, name); !fresh)
      fail("{}: would be written twice, as {} too", name, same->second);
    for (const std::string& dataset : files.datasets)
      check(!file_exists(name) || !is_part_of(dataset, name),
            "{}: is part of the data set {}, and would be overwritten; write to another file", name,
            dataset);
  }
  for (const std::string& folder : files.folders)
    for (const std::string& dataset : files.datasets)
      check(!is_part_of(dataset, folder),
            "{}: is inside the data set {}, which would change; write to another folder", folder,
            dataset);
}

void check_fillable(const std::string& folder, const std::string& ours,
                    const std::string& not_ours) {
  const fs::path path = folder;
  std::error_code ec;
  if (!fs::exists(path, ec)) return;
  check(fs::is_directory(path, ec), "{}: exists and is not a folder", folder);
  check(fs::is_empty(path, ec) || (file_exists(path / ours) && !file_exists(path / not_ours)),
        "{}: exists and holds other files; write to a new folder", folder);
}

}  // namespace sextant
