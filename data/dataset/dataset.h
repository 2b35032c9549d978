// Detection datasets: images with boxes, described in one of three ways (docs/data.md):
//
// 1. A folder: images/<split>/*, classes.json ({"names": [...]}), and labels/<split>/*.txt (YOLO
//    text), annotations/instances_<split>.json (COCO) or annotations/*.xml (Pascal VOC), the first of
//    these that is there; or the layout of the VOC challenge. A folder that holds data.yaml or
//    dataset.json instead of classes.json is read by that.
// 2. A JSON file; unknown keys are refused, paths are relative to the file:
//      {"format": "yolo",                     // or "coco", "voc"
//       "root": ".",                          // the other paths are relative to it
//       "names": ["cat", "dog"],              // index = class; COCO and VOC: may be absent
//       "train": "images/train",              // folder of images, list file (.txt), or array
//       "val": "images/val", "test": "images/test",
//       "labels": {"train": "labels/train"},                   // yolo, optional
//       "annotations": {"train": "annotations/train.json"}}    // coco, voc; optional
// 3. The common data.yaml: path, train, val, test, names (list or map), nc.
//
// YOLO text: a line per box, `class cx cy w h`, relative to the image, or a class and the points of
// a polygon. Labels of images/a/b.jpg are in labels/a/b.txt; a missing file means an image without
// objects. COCO: pixel x y w h; category ids are mapped to 0..n-1 in the order of `names` where given
// (by name), else of the ids; crowd boxes are kept and marked. VOC: classes in the order of `names`,
// else of their names; difficult objects are marked as crowd.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/enum_names.h"
#include "data/dataset/label_report.h"
#include "data/image/image.h"

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

// Images that turned out to be broken when they were decoded, each once. Thread-safe.
class BrokenImages {
 public:
  bool contains(int64_t index) const;
  // False when it is known already.
  bool add(int64_t index, LabelIssue issue);
  // In the order of the samples.
  LabelReport report() const;

 private:
  mutable std::mutex mutex_;
  std::map<int64_t, LabelIssue> issues_;
};

struct Dataset {
  std::string path;   // as given to open_dataset()
  std::string split;  // "train", "val", "test"
  std::vector<std::string> names;
  std::vector<Sample> samples;  // by file name (COCO: by image id)
  LabelReport report;
  std::string labels_at;       // where labels are looked for: a file of them, or their folder
  bool stop_on_error = false;  // DatasetOptions::on_error
  // Shared by copies, so that an image is reported once.
  std::shared_ptr<BrokenImages> broken = std::make_shared<BrokenImages>();

  int64_t size() const { return static_cast<int64_t>(samples.size()); }
  int64_t num_classes() const { return static_cast<int64_t>(names.size()); }
  int64_t boxes() const;
  int64_t images_without_boxes() const;
};

// A list of classes that a dataset is to have, and what messages call it: of the split that is
// trained on, or of a model.
struct ClassList {
  std::vector<std::string> names;
  std::string where;
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
  // The numbers of the classes are those of this list, by name. A dataset with other classes is
  // refused; one whose classes are those that its annotations happen to name (COCO, VOC) may have
  // fewer. Where either list is only numbers, classes go by number.
  std::optional<ClassList> classes = std::nullopt;
};

// Reads labels and image headers of one split. Mistakes end up in Dataset::report, each once: class
// out of range, not 5 columns, a number that is none or not finite, width or height not positive,
// box outside the image by more than 1e-3 of it (COCO, VOC: or 1 pixel; less is clipped), a row
// twice, labels without image, an image whose header is broken, one whose labels are all mistaken
// (it is left out). Throws Error when the description itself is wrong, the split is not there or no
// image is left.
Dataset open_dataset(const std::filesystem::path& path, const std::string& split,
                     const DatasetOptions& options = {});

// Throws Error, saying where labels are looked for, when no image has a box.
void check_has_boxes(const Dataset& dataset);

// The classes of a split, for another one to follow.
inline ClassList class_list(const Dataset& dataset) {
  return {dataset.names, dataset.path + " (" + dataset.split + ")"};
}

// The image of a sample. Nothing for one that does not decode, or has another size than when the
// dataset was opened; the first time it is said in one line on stderr. With stop_on_error that is
// an Error. Thread-safe.
std::optional<Image> load_sample(const Dataset& dataset, int64_t index);

}  // namespace sextant::data
