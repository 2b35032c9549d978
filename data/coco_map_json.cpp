// The files around the metric: detections and annotations in COCO's JSON forms.
#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/file.h"
#include "data/coco_map.h"

namespace sextant::data {
namespace {

Json to_json(const CocoBox& b) { return Json::array({b.x, b.y, b.w, b.h}); }

// Rows one to a line: a file of some 100,000 of them stays readable.
void append_rows(std::string& text, const std::vector<Json>& rows) {
  text += "[";
  for (size_t i = 0; i < rows.size(); ++i) {
    text += i ? ",\n" : "\n";
    text += rows[i].dump();
  }
  text += "\n]";
}

}  // namespace

void write_coco_results(const std::filesystem::path& path, std::span<const CocoResult> results) {
  std::vector<Json> rows;
  rows.reserve(results.size());
  for (const CocoResult& r : results) {
    for (const double v : {r.box.x, r.box.y, r.box.w, r.box.h, r.score})
      check(std::isfinite(v), "{}: detection {}: a value is not finite", path.string(),
            rows.size());
    rows.push_back({{"image_id", r.image_id},
                    {"category_id", r.category_id},
                    {"bbox", to_json(r.box)},
                    {"score", r.score}});
  }
  std::string text;
  append_rows(text, rows);
  text += "\n";
  write_atomically(path, text);
}

std::vector<CocoResult> read_coco_results(const std::filesystem::path& path) {
  const Json json = load_json(path);
  check(json.is_array(), "{}: must be a list of detections", path.string());
  std::vector<CocoResult> results;
  results.reserve(json.size());
  for (const Json& row : json) {
    const std::string where = fmt::format("{}: detection {}", path.string(), results.size());
    check(row.is_object(), "{}: must be an object", where);
    for (const char* key : {"image_id", "category_id", "bbox", "score"})
      check(row.contains(key), "{}: '{}' is missing", where, key);
    for (const char* key : {"image_id", "category_id"})
      check(row[key].is_number_integer(), "{}: '{}' must be a whole number, is {}", where, key,
            row[key].dump());
    const Json& box = row["bbox"];
    check(box.is_array() && box.size() == 4 &&
              std::all_of(box.begin(), box.end(), [](const Json& v) { return v.is_number(); }),
          "{}: 'bbox' must be [x, y, width, height], is {}", where, box.dump());
    check(row["score"].is_number(), "{}: 'score' must be a number, is {}", where,
          row["score"].dump());
    results.push_back({row["image_id"].get<int64_t>(), row["category_id"].get<int64_t>(),
                       CocoBox{box[0].get<double>(), box[1].get<double>(), box[2].get<double>(),
                               box[3].get<double>()},
                       row["score"].get<double>()});
  }
  return results;
}

void write_coco_annotations(const std::filesystem::path& path,
                            std::span<const CocoImageInfo> images, std::span<const ImageEval> evals,
                            const std::vector<std::string>& names, int64_t first_category) {
  check(images.size() == evals.size(), "{}: {} images, but ground truth for {}", path.string(),
        images.size(), evals.size());
  std::vector<Json> image_rows, annotation_rows, category_rows;
  for (size_t i = 0; i < images.size(); ++i) {
    image_rows.push_back({{"id", images[i].id},
                          {"file_name", images[i].file_name},
                          {"width", images[i].width},
                          {"height", images[i].height}});
    for (const GroundTruth& g : evals[i].truths)
      annotation_rows.push_back({{"id", static_cast<int64_t>(annotation_rows.size()) + 1},
                                 {"image_id", images[i].id},
                                 {"category_id", g.class_id + first_category},
                                 {"bbox", to_json(g.box)},
                                 {"area", g.area ? *g.area : g.box.w * g.box.h},
                                 {"iscrowd", g.crowd ? 1 : 0}});
  }
  for (size_t k = 0; k < names.size(); ++k)
    category_rows.push_back({{"id", static_cast<int64_t>(k) + first_category}, {"name", names[k]}});
  std::string text = "{\"images\": ";
  append_rows(text, image_rows);
  text += ",\n\"annotations\": ";
  append_rows(text, annotation_rows);
  text += ",\n\"categories\": ";
  append_rows(text, category_rows);
  text += "}\n";
  write_atomically(path, text);
}

}  // namespace sextant::data
