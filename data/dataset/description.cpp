#include "data/dataset/description.h"

#include <yaml-cpp/yaml.h>

#include <set>

#include "core/config.h"
#include "core/error.h"

namespace sextant::data {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSplits[] = {"train", "val", "test"};

void check_names(const std::vector<std::string>& names, const std::string& where) {
  std::set<std::string> seen;
  for (const std::string& name : names)
    check(seen.insert(name).second, "{}: the name '{}' is there twice", where, name);
}

std::vector<std::string> read_class_names(const fs::path& file) {
  std::vector<std::string> names;
  ConfigReader reader(load_json(file), file.string());
  reader.require("names", names);
  return names;
}

DatasetDescription from_folder(const fs::path& root) {
  DatasetDescription d;
  d.where = root.string();
  const fs::path classes = root / "classes.json";
  const bool yolo = fs::is_directory(root / "labels");
  const bool coco = fs::is_directory(root / "annotations");
  check(fs::is_directory(root / "images"), "{}: has no folder 'images'", d.where);
  check(fs::exists(classes) || (coco && !yolo),
        "{}: has neither classes.json nor dataset.json nor data.yaml", d.where);
  d.format = coco && !yolo ? DatasetFormat::kCoco : DatasetFormat::kYolo;
  if (fs::exists(classes)) d.names = read_class_names(classes);
  for (const auto& entry : fs::directory_iterator(root / "images")) {
    if (!entry.is_directory()) continue;
    const std::string split = entry.path().filename().string();
    d.images[split] = {entry.path()};
    if (d.format == DatasetFormat::kCoco)
      d.annotations[split] = root / "annotations" / ("instances_" + split + ".json");
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
  check(fs::is_directory(root), "{}: 'root' is '{}', which is no folder", d.where, root.string());
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
        d.annotations[split] = root / "annotations" / ("instances_" + split + ".json");
  }
  reader.finish();
  return d;
}

// Paths in a data.yaml are relative to the file, or, as older tools have it, to the folder that the
// program was started in.
fs::path resolve(const fs::path& base, const fs::path& path) {
  if (path.is_absolute() || fs::exists(base / path) || !fs::exists(path)) return base / path;
  return path;
}

DatasetDescription from_yaml(const fs::path& file) {
  DatasetDescription d;
  d.where = file.string();
  try {
    const YAML::Node yaml = YAML::LoadFile(file.string());
    check(yaml.IsMap(), "{}: must hold keys and values", d.where);
    const fs::path folder = file.parent_path();
    const fs::path root =
        yaml["path"] ? resolve(folder, yaml["path"].as<std::string>()) : folder / ".";
    for (const char* split : kSplits) {
      const YAML::Node node = yaml[split];
      if (!node || node.IsNull()) continue;
      if (node.IsSequence())
        for (const auto& entry : node)
          d.images[split].push_back(resolve(root, entry.as<std::string>()));
      else
        d.images[split].push_back(resolve(root, node.as<std::string>()));
    }
    const YAML::Node names = yaml["names"];
    check(names && (names.IsSequence() || names.IsMap()), "{}: 'names' is missing", d.where);
    if (names.IsSequence()) {
      d.names = names.as<std::vector<std::string>>();
    } else {
      const auto by_class = names.as<std::map<int64_t, std::string>>();
      for (const auto& [index, name] : by_class) {
        check(index == static_cast<int64_t>(d.names.size()),
              "{}: 'names' has class {}, but not class {}", d.where, index, d.names.size());
        d.names.push_back(name);
      }
    }
    if (yaml["nc"]) {
      const auto nc = yaml["nc"].as<int64_t>();
      check(nc == static_cast<int64_t>(d.names.size()), "{}: 'nc' is {}, but there are {} names",
            d.where, nc, d.names.size());
    }
  } catch (const YAML::Exception& e) {
    fail("{}: line {}, column {}: {}", d.where, e.mark.line + 1, e.mark.column + 1, e.msg);
  }
  return d;
}

}  // namespace

DatasetDescription describe_dataset(const fs::path& path) {
  check(fs::exists(path), "{}: is not there", path.string());
  fs::path file = path;
  if (fs::is_directory(path) && !fs::exists(path / "classes.json")) {
    for (const char* name : {"dataset.json", "data.yaml", "data.yml"})
      if (file == path && fs::exists(path / name)) file = path / name;
  }
  DatasetDescription d;
  const std::string extension = file.extension().string();
  if (fs::is_directory(file))
    d = from_folder(file);
  else if (extension == ".json")
    d = from_json(file);
  else if (extension == ".yaml" || extension == ".yml")
    d = from_yaml(file);
  else
    fail("{}: a dataset is a folder, a .json or a .yaml file", path.string());
  check_names(d.names, d.where);
  return d;
}

}  // namespace sextant::data
