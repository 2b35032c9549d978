// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <set>
#include <unordered_map>

#include "core/class_names.h"
#include "core/config.h"
#include "core/error.h"
#include "core/file.h"
#include "data/dataset/boxes.h"
#include "data/dataset/coco_segmentation.h"
#include "data/dataset/description.h"
#include "data/dataset/image_sizes.h"

namespace sextant::data {
namespace {

namespace fs = std::filesystem;

// The list under `key`; throws when it is missing.
const Json& list_of(const Json& json, const char* key, const std::string& where) {
  check(json.is_object() && json.contains(key) && json.at(key).is_array(),
        "{}: has no list '{}'; is it a COCO instances file?", where, key);
  return json.at(key);
}

// Null if the entry has no such key.
const Json* find(const Json& entry, const char* key) {
  if (!entry.is_object()) return nullptr;
  const auto at = entry.find(key);
  return at == entry.end() ? nullptr : &*at;
}

template <class T>
T field(const Json& entry, const char* key, const std::string& where) {
  T value{};
  const Json* json = find(entry, key);
  check(json != nullptr && read_value(*json, value), "{}: an entry has no valid '{}': {}", where,
        key, short_json(entry));
  return value;
}

// Image ids are numbers, though some tools write strings.
std::string image_key(const Json& entry, const char* key, const std::string& where) {
  int64_t number = 0;
  const Json* id = find(entry, key);
  if (id != nullptr && read_value(*id, number)) return std::to_string(number);
  check(id != nullptr && (id->is_number_unsigned() || id->is_string()),
        "{}: an entry has no valid '{}': {}", where, key, short_json(entry));
  return json_text(*id);
}

// Sorts numbers first, then strings.
bool id_less(const Json* a, const Json* b) { return a->at("id") < b->at("id"); }

// Category id -> class; -1 for a category that `names` leaves out.
std::map<int64_t, int64_t> map_categories(const Json& categories, const std::string& where,
                                          std::vector<std::string>& names) {
  std::map<int64_t, std::string> by_id;
  for (const Json& entry : categories) {
    const auto id = field<int64_t>(entry, "id", where);
    check(by_id.emplace(id, field<std::string>(entry, "name", where)).second,
          "{}: duplicate category id {}", where, id);
  }
  std::vector<std::string> of_file;
  for (const auto& [id, name] : by_id) of_file.push_back(name);
  check_class_names(of_file, where);
  if (names.empty()) names = of_file;
  check(!names.empty(), "{}: has no categories", where);
  std::map<int64_t, int64_t> classes;
  for (const auto& [id, name] : by_id) {
    const auto at = std::ranges::find(names, name);
    classes[id] = at == names.end() ? -1 : at - names.begin();
  }
  return classes;
}

// A side as stored in the file, as a number or a string; empty if absent or null, -1 for anything
// else.
std::optional<int64_t> stated_side(const Json& entry, const char* key) {
  const Json* json = find(entry, key);
  if (json == nullptr || json->is_null()) return std::nullopt;
  int64_t side = -1;
  if (read_value(*json, side)) return side;
  std::string text;
  if (!read_value(*json, text)) return -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), side);
  return error == std::errc() && end == text.data() + text.size() ? side : -1;
}

class Reading {
 public:
  Reading(const Json& json, const fs::path& folder, std::string file, Dataset& dataset)
      : where_(std::move(file)),
        classes_(map_categories(list_of(json, "categories", where_), where_, dataset.names)),
        dataset_(dataset) {
    images(list_of(json, "images", where_), folder);
    for (const Json& entry : list_of(json, "annotations", where_)) annotation(entry);
    for (SampleBoxes& boxes : samples_) finish_sample(std::move(boxes), dataset);
  }

 private:
  void images(const Json& list, const fs::path& folder);
  void image(const Json& entry, const std::string& file, const std::optional<ImageSize>& size);
  void annotation(const Json& entry);

  const std::string where_;
  const std::map<int64_t, int64_t> classes_;
  Dataset& dataset_;
  std::vector<SampleBoxes> samples_;
  // Samples by image id; images that were left out have none.
  std::unordered_map<std::string, std::optional<size_t>> sample_of_;
};

void Reading::images(const Json& list, const fs::path& folder) {
  std::vector<const Json*> entries;
  LabelReport twice;
  for (const Json& entry : list) {
    const std::string id = image_key(entry, "id", where_);
    if (sample_of_.emplace(id, std::nullopt).second)
      entries.push_back(&entry);
    else
      twice.add({where_, 0, false, "duplicate", fmt::format("duplicate image id {}", id)});
  }
  std::ranges::stable_sort(entries, id_less);
  std::vector<std::string> files;
  std::vector<const Json*> there;
  for (const Json* entry : entries) {
    const fs::path file = folder / field<std::string>(*entry, "file_name", where_);
    if (!file_exists(file)) {
      dataset_.report.add(
          {file.string(), 0, false, "image",
           fmt::format("the image is listed in {}, but the file does not exist", where_)});
      continue;
    }
    files.push_back(file.string());
    there.push_back(entry);
  }
  const auto sizes = read_image_sizes(files, where_, dataset_.report);
  for (size_t i = 0; i < files.size(); ++i) image(*there[i], files[i], sizes[i]);
  dataset_.report.add(twice);
}

void Reading::image(const Json& entry, const std::string& file,
                    const std::optional<ImageSize>& size) {
  if (!size) return;  // already reported
  const auto width = stated_side(entry, "width"), height = stated_side(entry, "height");
  if (width.value_or(size->width) != size->width || height.value_or(size->height) != size->height) {
    const auto text = [&](const char* key) {
      const Json* json = find(entry, key);
      return json == nullptr ? std::string("?") : short_json(*json);
    };
    dataset_.report.add({file, 0, false, "image",
                         fmt::format("the image is {}x{}, but {} says {}x{}", size->width,
                                     size->height, where_, text("width"), text("height"))});
    return;
  }
  Sample sample;
  if (!read_value(entry.at("id"), sample.image_id)) sample.image_id = kPositionId;
  sample.image = file;
  sample.width = size->width;
  sample.height = size->height;
  sample_of_[image_key(entry, "id", where_)] = samples_.size();
  samples_.emplace_back(std::move(sample), dataset_.num_classes());
}

// "bbox" is x y w h in pixels. Returns corners, or the kind and text of the mistake.
struct Bounds {
  std::array<double, 4> corners{};
  double area = 0;
  const char* kind = nullptr;
  std::string problem;
};
Bounds bounds_of(const Json& entry) {
  Bounds b;
  const Json* box = find(entry, "bbox");
  if (box == nullptr || box->is_null() || (box->is_array() && box->empty())) {
    const Json* segmentation = find(entry, "segmentation");
    const auto around = segmentation ? segmentation_box(*segmentation) : std::nullopt;
    if (around) {
      b.corners = *around;
      b.area = (b.corners[2] - b.corners[0]) * (b.corners[3] - b.corners[1]);
      return b;
    }
  }
  if (box == nullptr || !box->is_array() || box->size() != 4) {
    b.kind = "columns";
    b.problem = "'bbox' must be a list of 4 numbers (x y w h), and no segmentation replaces it";
    return b;
  }
  for (size_t k = 0; k < 4; ++k)
    if (!read_value((*box)[k], b.corners[k])) {
      b.kind = "number";
      b.problem =
          fmt::format("'bbox' holds {}, which is not a finite number", short_json((*box)[k]));
      return b;
    }
  b.area = b.corners[2] * b.corners[3];
  b.corners[2] += b.corners[0];
  b.corners[3] += b.corners[1];
  return b;
}

void Reading::annotation(const Json& entry) {
  const LabelIssue at{where_, field<int64_t>(entry, "id", where_), true, "", ""};
  const std::string image_id = image_key(entry, "image_id", where_);
  const auto found = sample_of_.find(image_id);
  if (found == sample_of_.end()) {
    dataset_.report.add(
        {where_, at.line, true, "annotation", fmt::format("no image has the id {}", image_id)});
    return;
  }
  if (!found->second) return;  // the image has already been reported
  SampleBoxes& boxes = samples_[*found->second];
  const auto category = field<int64_t>(entry, "category_id", where_);
  const auto cls = classes_.find(category);
  if (cls == classes_.end())
    return boxes.refuse(at, "class", fmt::format("category {} does not exist", category),
                        dataset_.report);
  if (cls->second < 0) {
    // An object of a class that was not requested: the image is kept.
    dataset_.report.add({where_, at.line, true, "class",
                         fmt::format("category {} is not among the classes", category)});
    return;
  }
  const Bounds b = bounds_of(entry);
  if (b.kind != nullptr) return boxes.refuse(at, b.kind, b.problem, dataset_.report);
  const auto& [x1, y1, x2, y2] = b.corners;
  RawBox raw = pixel_box(boxes.sample(), static_cast<double>(cls->second), x1, y1, x2, y2);
  raw.area = b.area;
  double number = 0;
  const Json* crowd = find(entry, "iscrowd");
  if (crowd != nullptr && !read_value(*crowd, raw.crowd))
    raw.crowd = read_value(*crowd, number) && number != 0;
  const Json* area = find(entry, "area");
  if (area != nullptr && read_value(*area, number)) raw.area = number;
  boxes.add(raw, at, dataset_.report);
}

}  // namespace

void read_coco_split(const DatasetDescription& description, const std::string& split,
                     Dataset& dataset) {
  const auto& folders = description.images.at(split);
  check(folders.size() == 1 && is_folder(folders[0]),
        "{}: split '{}' of a COCO dataset must be one folder of images", description.where, split);
  const fs::path file = description.annotations.at(split);
  dataset.labels_at = file.string();
  const Json json = load_json(file);
  const Reading reading(json, folders[0], file.string(), dataset);
}

}  // namespace sextant::data
