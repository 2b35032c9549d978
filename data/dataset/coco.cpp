#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "core/config.h"
#include "core/error.h"
#include "data/dataset/description.h"

namespace sextant::data {
namespace {

namespace fs = std::filesystem;

// The list under `key`; throws when it is not there.
const Json& list_of(const Json& json, const char* key, const std::string& where) {
  check(json.is_object() && json.contains(key) && json.at(key).is_array(),
        "{}: has no list '{}'; is it a COCO instances file?", where, key);
  return json.at(key);
}

template <class T>
T field(const Json& entry, const char* key, const std::string& where) {
  try {
    return entry.at(key).get<T>();
  } catch (const nlohmann::json::exception&) {
    fail("{}: an entry has no valid '{}': {}", where, key, entry.dump().substr(0, 200));
  }
}

// Image ids are numbers; some tools write strings.
std::string image_key(const Json& entry, const char* key, const std::string& where) {
  check(entry.is_object() && entry.contains(key) &&
            (entry.at(key).is_number_integer() || entry.at(key).is_string()),
        "{}: an entry has no valid '{}': {}", where, key, entry.dump().substr(0, 200));
  return entry.at(key).dump();
}

// Numbers in their order, then strings in theirs.
bool id_less(const Json* a, const Json* b) { return a->at("id") < b->at("id"); }

// Category id -> class; -1 for a category that `names` leaves out.
std::map<int64_t, int64_t> map_categories(const Json& categories, const std::string& where,
                                          std::vector<std::string>& names) {
  std::map<int64_t, std::string> by_id;
  for (const Json& entry : categories) {
    const auto id = field<int64_t>(entry, "id", where);
    check(by_id.emplace(id, field<std::string>(entry, "name", where)).second,
          "{}: category id {} is there twice", where, id);
  }
  if (names.empty())
    for (const auto& [id, name] : by_id) names.push_back(name);
  check(!names.empty(), "{}: has no categories", where);
  std::map<int64_t, int64_t> classes;
  for (const auto& [id, name] : by_id) {
    const auto at = std::ranges::find(names, name);
    classes[id] = at == names.end() ? -1 : at - names.begin();
  }
  return classes;
}

struct Reading {
  const std::string where;
  const std::map<int64_t, int64_t> classes;
  std::map<std::string, size_t> sample_of;  // by image id
  std::set<std::string> known;              // image ids, left out ones too
  Dataset& dataset;

  void image(const Json& entry, const fs::path& folder);
  void annotation(const Json& entry);
};

void Reading::image(const Json& entry, const fs::path& folder) {
  LabelReport& report = dataset.report;
  Sample sample;
  const std::string id = image_key(entry, "id", where);
  sample.image_id = entry.at("id").is_string() ? dataset.size() : entry.at("id").get<int64_t>();
  sample.image = folder / field<std::string>(entry, "file_name", where);
  if (!known.insert(id).second) {
    report.add({where, 0, false, "duplicate", fmt::format("image id {} is there twice", id)});
    return;
  }
  if (!fs::exists(sample.image)) {
    report.add({sample.image.string(), 0, false, "image",
                fmt::format("the image is listed in {}, but not there", where)});
    return;
  }
  if (!read_header(sample, report)) return;
  const auto width = entry.value("width", sample.width);
  const auto height = entry.value("height", sample.height);
  if (width != sample.width || height != sample.height) {
    report.add({sample.image.string(), 0, false, "image",
                fmt::format("the image is {}x{}, but {} says {}x{}", sample.width, sample.height,
                            where, width, height)});
    return;
  }
  sample_of[id] = dataset.samples.size();
  dataset.samples.push_back(std::move(sample));
}

void Reading::annotation(const Json& entry) {
  LabelIssue at{where, field<int64_t>(entry, "id", where), true, "", ""};
  auto issue = [&](const char* kind, std::string message) {
    at.kind = kind;
    at.message = std::move(message);
    dataset.report.add(at);
  };
  const std::string image_id = image_key(entry, "image_id", where);
  if (!known.contains(image_id))
    return issue("annotation", fmt::format("there is no image with id {}", image_id));
  const auto found = sample_of.find(image_id);
  if (found == sample_of.end()) return;  // its image has been reported
  Sample& sample = dataset.samples[found->second];
  const auto category = field<int64_t>(entry, "category_id", where);
  const auto cls = classes.find(category);
  if (cls == classes.end() || cls->second < 0)
    return issue("class", fmt::format("category {} is not among the classes", category));
  if (!entry.contains("bbox") || !entry.at("bbox").is_array() || entry.at("bbox").size() != 4)
    return issue("columns", "'bbox' must be a list of 4 numbers (x y w h)");
  std::array<double, 4> b{};
  for (size_t k = 0; k < 4; ++k) {
    const Json& value = entry.at("bbox")[k];
    b[k] = value.is_number() ? value.get<double>() : NAN;
    if (!std::isfinite(b[k]))
      return issue("number",
                   fmt::format("'bbox' holds {}, which is not a finite number", value.dump()));
  }
  const double w = sample.width;
  const double h = sample.height;
  RawBox raw;
  raw.category = static_cast<double>(cls->second);
  raw.x1 = b[0] / w;
  raw.y1 = b[1] / h;
  raw.x2 = (b[0] + b[2]) / w;
  raw.y2 = (b[1] + b[3]) / h;
  raw.tolerance_x = std::max(1e-3, (1 + 1e-6) / w);
  raw.tolerance_y = std::max(1e-3, (1 + 1e-6) / h);
  raw.crowd = entry.contains("iscrowd") && entry.at("iscrowd").is_number() &&
              entry.at("iscrowd").get<double>() != 0;
  raw.area = entry.contains("area") && entry.at("area").is_number() ? entry.at("area").get<double>()
                                                                    : b[2] * b[3];
  add_box(raw, dataset.num_classes(), at, sample, dataset.report);
}

}  // namespace

void read_coco_split(const DatasetDescription& description, const std::string& split,
                     Dataset& dataset) {
  const auto& folders = description.images.at(split);
  check(folders.size() == 1 && fs::is_directory(folders[0]),
        "{}: split '{}' of a COCO dataset must be one folder of images", description.where, split);
  const fs::path file = description.annotations.at(split);
  const std::string where = file.string();
  const Json json = load_json(file);
  Reading reading{where,
                  map_categories(list_of(json, "categories", where), where, dataset.names),
                  {},
                  {},
                  dataset};
  std::vector<const Json*> images;
  for (const Json& entry : list_of(json, "images", where)) {
    image_key(entry, "id", where);
    images.push_back(&entry);
  }
  std::ranges::stable_sort(images, id_less);
  for (const Json* entry : images) reading.image(*entry, folders[0]);
  for (const Json& entry : list_of(json, "annotations", where)) reading.annotation(entry);
}

}  // namespace sextant::data
