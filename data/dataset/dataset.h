// Detection datasets: images with boxes, described in one of three ways.
//
// 1. A folder: images/<split>/*.{jpg,png}, classes.json ({"names": [...]}), and either
//    labels/<split>/*.txt (YOLO text) or annotations/instances_<split>.json (COCO). Where both are
//    there, the YOLO text is read. A folder that holds data.yaml or dataset.json instead of
//    classes.json is read by that.
// 2. A JSON file; unknown keys are refused, paths are relative to the file:
//      {"format": "yolo",                     // or "coco"
//       "root": ".",                          // the other paths are relative to it
//       "names": ["cat", "dog"],              // index = class; COCO: may be absent
//       "train": "images/train",              // folder of images, list file (.txt), or array
//       "val": "images/val", "test": "images/test",
//       "labels": {"train": "labels/train"},                   // yolo, optional
//       "annotations": {"train": "annotations/train.json"}}    // coco, optional
// 3. The common data.yaml: path, train, val, test, names (list or map), nc.
//
// YOLO text: a line per box, `class cx cy w h`, relative to the image. Labels of images/a/b.jpg are
// in labels/a/b.txt; a missing file means an image without objects. COCO: pixel x y w h; category
// ids are mapped to 0..n-1 in the order of `names` where given (by name), else of the ids; crowd
// boxes are kept and marked. Nothing is cached in hidden files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/enum_names.h"
#include "data/dataset/label_report.h"

namespace sextant::data {

// Relative to the image, 0..1.
struct Label {
  int category = 0;
  float cx = 0, cy = 0, w = 0, h = 0;
  bool crowd = false;  // COCO's iscrowd: matches may be ignored, never trained on
  double area = 0;     // pixels^2: COCO's "area" where given, else w * h of the box
};

struct Sample {
  std::filesystem::path image;
  int width = 0;  // out of the image's header
  int height = 0;
  int64_t image_id = 0;  // COCO's id; where that is no number, and in YOLO text: the position in
                         // the sorted list, from 0
  std::vector<Label> labels;
};

struct Dataset {
  std::string path;   // as given to open_dataset()
  std::string split;  // "train", "val", "test"
  std::vector<std::string> names;
  std::vector<Sample> samples;  // by file name (COCO: by image id)
  LabelReport report;

  int64_t size() const { return static_cast<int64_t>(samples.size()); }
  int64_t num_classes() const { return static_cast<int64_t>(names.size()); }
};

// What a mistake in the labels or a broken image leads to.
enum class OnError {
  kSkip,  // the row (or the image) is left out
  kStop,  // one Error, which names the first mistake and their number
};
constexpr auto enum_names(OnError) {
  return make_enum_names<OnError>("error policy",
                                  {{OnError::kSkip, "skip"}, {OnError::kStop, "stop"}});
}

struct DatasetOptions {
  OnError on_error = OnError::kSkip;
};

// Reads labels and image headers of one split. Mistakes end up in Dataset::report, each once: class
// out of range, not 5 columns, a number that is none or not finite, width or height not positive,
// box outside the image by more than 1e-3 of it (COCO: or 1 pixel; less is clipped), a row twice,
// labels without image, an image whose header is broken. Throws Error when the description itself
// is wrong, the split is not there or no image is left.
Dataset open_dataset(const std::filesystem::path& path, const std::string& split,
                     const DatasetOptions& options = {});

}  // namespace sextant::data
