// SPDX-License-Identifier: Apache-2.0
#include "data/dataset/description.h"

#include <yaml-cpp/yaml.h>

#include <set>

#include "core/class_names.h"
#include "core/config.h"
#include "core/error.h"
#include "core/file.h"
#include "core/text.h"
#include "data/dataset/folder.h"

namespace sextant::data {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSplits[] = {"train", "val", "test"};

constexpr size_t kMaxYaml = size_t{16} << 20;
constexpr size_t kMaxYamlEntries = kMaxClasses;
constexpr size_t kMaxYamlText = 4096;

std::vector<std::string> read_class_names(const fs::path& file) {
  std::vector<std::string> names;
  ConfigReader reader(load_json(file), file.string());
  reader.require("names", names);
  check_class_names(names, file.string());
  return names;
}

// Whether a folder or its subfolders contain a file with that extension.
bool holds(const fs::path& folder, const char* extension) {
  const auto wanted = [&](const fs::path& file) { return file.extension() == extension; };
  return is_folder(folder) && !files_under(folder, wanted).empty();
}

// The layout of the Pascal VOC challenge: JPEGImages, Annotations, ImageSets/Main/<split>.txt.
DatasetDescription from_voc_folder(const fs::path& root) {
  DatasetDescription d;
  d.where = root.string();
  d.format = DatasetFormat::kVoc;
  d.listed_in = root / "JPEGImages";
  for (const char* split : kSplits) {
    const fs::path list = root / "ImageSets" / "Main" / (std::string(split) + ".txt");
    if (!file_exists(list)) continue;
    d.images[split] = {list};
    d.annotations[split] = root / "Annotations";
  }
  return d;
}

DatasetDescription from_folder(const fs::path& root) {
  const fs::path classes = root / "classes.json", annotations = root / "annotations";
  DatasetDescription d;
  d.where = root.string();
  if (is_folder(root / "JPEGImages") && is_folder(root / "Annotations")) {
    d = from_voc_folder(root);
    if (file_exists(classes)) d.names = read_class_names(classes);
    return d;
  }
  check(is_folder(root / "images"), "{}: has no folder 'images'", d.where);
  d.format = is_folder(root / "labels")    ? DatasetFormat::kYolo
             : holds(annotations, ".json") ? DatasetFormat::kCoco
             : holds(annotations, ".xml")  ? DatasetFormat::kVoc
             : is_folder(annotations)      ? DatasetFormat::kCoco
                                           : DatasetFormat::kYolo;
  check(file_exists(classes) || d.format != DatasetFormat::kYolo,
        "{}: has neither classes.json nor dataset.json nor data.yaml", d.where);
  if (file_exists(classes)) d.names = read_class_names(classes);
  for (const auto& entry : fs::directory_iterator(root / "images")) {
    const std::string split = entry.path().filename().string();
    if (!entry.is_directory() || split.starts_with('.')) continue;
    d.images[split] = {entry.path()};
    if (d.format == DatasetFormat::kCoco)
      d.annotations[split] = annotations / ("instances_" + split + ".json");
    if (d.format == DatasetFormat::kVoc) d.annotations[split] = annotations;
  }
  return d;
}

std::map<std::string, fs::path> read_paths(ConfigReader reader, const fs::path& root) {
  std::map<std::string, fs::path> paths;
  for (const char* split : kSplits) {
    std::string path;
    reader.get(split, path);
    if (!path.empty()) paths[split] = root / path;
  }
  reader.finish();
  return paths;
}

DatasetDescription from_json(const fs::path& file) {
  DatasetDescription d;
  d.where = file.string();
  ConfigReader reader(load_json(file), d.where);
  reader.get("format", d.format);
  std::string root_name = ".";
  reader.get("root", root_name);
  const fs::path root = file.parent_path() / root_name;
  check(is_folder(root), "{}: 'root' is '{}', which is not a folder", d.where, root.string());
  if (d.format == DatasetFormat::kYolo)
    reader.require("names", d.names);
  else
    reader.get("names", d.names);
  for (const char* split : kSplits) {
    std::vector<std::string> paths;
    if (reader.has(split) && reader.json().at(split).is_string()) {
      paths.resize(1);
      reader.get(split, paths[0]);
    } else {
      reader.get(split, paths);
    }
    for (const std::string& path : paths) d.images[split].push_back(root / path);
  }
  if (d.format == DatasetFormat::kYolo) {
    d.labels = read_paths(reader.child("labels"), root);
  } else {
    d.annotations = read_paths(reader.child("annotations"), root);
    for (const auto& [split, unused] : d.images)
      if (!d.annotations.contains(split))
        d.annotations[split] =
            root / "annotations" /
            (d.format == DatasetFormat::kCoco ? "instances_" + split + ".json" : "");
  }
  reader.finish();
  return d;
}

// Paths in a data.yaml are relative to the file, or, in older tools, to the working directory.
// Labelling services write "../train/images" for "train/images" next to the file.
fs::path resolve(const fs::path& base, const fs::path& path) {
  if (path.is_absolute() || file_exists(base / path)) return base / path;
  if (file_exists(path)) return path;
  constexpr std::string_view kUp = "../";
  if (const std::string text = path.string(); text.starts_with(kUp))
    if (file_exists(base / text.substr(kUp.size()))) return base / text.substr(kUp.size());
  return base / path;
}

// yaml-cpp would silently use the last of two equal keys.
void check_keys(const YAML::Node& map, const std::string& where) {
  std::set<std::string> seen;
  for (const auto& entry : map) {
    const auto key = entry.first.as<std::string>();
    check(seen.insert(key).second, "{}: duplicate key '{}'", where, printable(key));
  }
}

// With aliases a short file can expand to a huge list.
std::vector<std::string> string_list(const YAML::Node& node, const std::string& where) {
  check(node.size() <= kMaxYamlEntries, "{}: a list has {} entries, more than {}", where,
        node.size(), kMaxYamlEntries);
  std::vector<std::string> list;
  for (const auto& entry : node) {
    list.push_back(entry.as<std::string>());
    check(list.back().size() <= kMaxYamlText, "{}: a list holds a text of {} bytes", where,
          list.back().size());
  }
  return list;
}

std::vector<std::string> class_list(const YAML::Node& node, const std::string& where) {
  if (node.IsSequence()) return string_list(node, where);
  check_keys(node, where);
  check(node.size() <= kMaxYamlEntries, "{}: 'names' has {} entries, more than {}", where,
        node.size(), kMaxYamlEntries);
  std::map<int64_t, std::string> by_class;
  for (const auto& entry : node) {
    const auto index = entry.first.as<int64_t>();
    check(by_class.emplace(index, entry.second.as<std::string>()).second,
          "{}: 'names' has class {} twice", where, index);
  }
  std::vector<std::string> names;
  for (const auto& [index, name] : by_class) {
    check(index == static_cast<int64_t>(names.size()), "{}: 'names' has class {}, but not class {}",
          where, index, names.size());
    names.push_back(name);
  }
  return names;
}

}  // namespace

DatasetDescription parse_data_yaml(std::string_view text, const fs::path& file) {
  DatasetDescription d;
  d.where = file.string();
  check(text.size() <= kMaxYaml, "{}: has {} bytes, more than {}", d.where, text.size(), kMaxYaml);
  try {
    const YAML::Node yaml = YAML::Load(std::string(text));
    check(yaml.IsMap(), "{}: must hold keys and values", d.where);
    check_keys(yaml, d.where);
    const fs::path folder = file.parent_path();
    const fs::path root =
        yaml["path"] ? resolve(folder, yaml["path"].as<std::string>()) : folder / ".";
    for (const char* split : kSplits) {
      const YAML::Node node = yaml[split];
      if (!node || node.IsNull()) continue;
      const auto paths =
          node.IsSequence() ? string_list(node, d.where) : std::vector{node.as<std::string>()};
      for (const std::string& path : paths) d.images[split].push_back(resolve(root, path));
    }
    const YAML::Node names = yaml["names"];
    check(names && (names.IsSequence() || names.IsMap()), "{}: 'names' is missing", d.where);
    d.names = class_list(names, d.where);
    if (yaml["nc"]) {
      const auto nc = yaml["nc"].as<int64_t>();
      check(nc == static_cast<int64_t>(d.names.size()), "{}: 'nc' is {}, but 'names' has {}",
            d.where, nc, d.names.size());
    }
  } catch (const YAML::Exception& e) {
    fail("{}: line {}, column {}: {}", d.where, e.mark.line + 1, e.mark.column + 1, e.msg);
  }
  return d;
}

DatasetDescription describe_dataset(const fs::path& path) {
  check(file_exists(path), "{}: no such file or folder", path.string());
  fs::path file = path;
  if (is_folder(path) && !file_exists(path / "classes.json")) {
    for (const char* name : {"dataset.json", "data.yaml", "data.yml"})
      if (file == path && file_exists(path / name)) file = path / name;
  }
  DatasetDescription d;
  const std::string extension = file.extension().string();
  if (is_folder(file))
    d = from_folder(file);
  else if (extension == ".json")
    d = from_json(file);
  else if (extension == ".yaml" || extension == ".yml")
    d = parse_data_yaml(read_text(file), file);
  else
    fail("{}: a dataset must be a folder, a .json or a .yaml file", path.string());
  check_class_names(d.names, d.where);
  return d;
}

}  // namespace sextant::data
