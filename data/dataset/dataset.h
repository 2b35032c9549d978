// SPDX-License-Identifier: Apache-2.0
// Detection datasets: images with boxes, described in one of three ways (docs/data.md):
//
// 1. A folder: images/<split>/*, classes.json ({"names": [...]}), and labels/<split>/*.txt (YOLO
//    text), annotations/instances_<split>.json (COCO) or annotations/*.xml (Pascal VOC), the first
//    of these that exists; or the layout of the VOC challenge. A folder with data.yaml or
//    dataset.json instead of classes.json is read as that file says.
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
// YOLO text: one line per box, `class cx cy w h`, relative to the image, or a class and the points
// of a polygon. Labels of images/a/b.jpg are in labels/a/b.txt; a missing file means an image
// without objects. COCO: pixel x y w h; category ids are mapped to 0..n-1, by name in the order of
// `names` if given, else by id; crowd boxes are kept and marked. VOC: classes in the order of
// `names` if given, else alphabetical; difficult objects are marked as crowd.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
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
  int64_t line = 0;    // in Sample::label_file, as LabelIssue has it
};

struct Sample {
  std::filesystem::path image;
  int width = 0;  // from the image's header
  int height = 0;
  int64_t image_id = 0;  // COCO's id; if it is not a number, and in YOLO text, the position in
                         // the sorted list, from 0
  std::vector<Label> labels;
  std::string label_file;  // that the labels are from; empty without labels
  bool lines_are_ids = false;
};

// The images that could not be decoded, each once. Thread-safe.
class BrokenImages {
 public:
  bool contains(int64_t index) const;
  // Returns false if it is already known.
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
  std::string labels_at;       // the file or folder that holds the labels
  bool stop_on_error = false;  // DatasetOptions::on_error
  // Shared between copies, so that an image is reported once.
  std::shared_ptr<BrokenImages> broken = std::make_shared<BrokenImages>();

  int64_t size() const { return static_cast<int64_t>(samples.size()); }
  int64_t num_classes() const { return static_cast<int64_t>(names.size()); }
  int64_t boxes() const;
  int64_t images_without_boxes() const;
};

// The classes that a dataset has to match, and how messages call their source: the training split,
// or a model.
struct ClassList {
  std::vector<std::string> names;
  std::string where;

  // One class, named "object", that those of any dataset count as.
  static ClassList any(const std::string& where) { return {{"object"}, where}; }
  bool is_any() const { return names == any("").names; }
};

// How to handle mistakes in the labels and broken images.
enum class OnError {
  kSkip,  // leave out the row (or the image)
  kStop,  // throw one Error with the first mistake and the total number
};
constexpr auto enum_names(OnError) {
  return make_enum_names<OnError>("error policy",
                                  {{OnError::kSkip, "skip"}, {OnError::kStop, "stop"}});
}

struct DatasetOptions {
  OnError on_error = OnError::kSkip;
  // Classes are numbered as in this list, by name. A dataset with other classes is refused; one
  // that takes its class names from the annotations (COCO, VOC) may have fewer. If either list
  // consists only of numbers, classes are matched by number.
  std::optional<ClassList> classes = std::nullopt;
};

// Reads labels and image headers of one split. Mistakes are collected in Dataset::report, each
// once: class out of range, not 5 columns, a malformed or non-finite number, width or height not
// positive, box outside the image by more than 1e-3 of its side (COCO, VOC: or 1 pixel; less is
// clipped), duplicate rows, labels without an image, a broken image header, an image whose labels
// are all invalid (it is left out). Throws Error when the description itself is wrong, the split
// does not exist, or no image is left.
Dataset open_dataset(const std::filesystem::path& path, const std::string& split,
                     const DatasetOptions& options = {});

// A hash of the images' names and sizes, the labels and the classes: whether two runs saw the same data.
std::string fingerprint(const Dataset& dataset);

// Throws Error, naming the place of the labels, when no image has a box.
void check_has_boxes(const Dataset& dataset);

// The classes of a split, which other splits have to match.
inline ClassList class_list(const Dataset& dataset) {
  return {dataset.names, dataset.path + " (" + dataset.split + ")"};
}

// Loads the image of a sample. Empty if it cannot be decoded or its size has changed since the
// dataset was opened; this is reported once, in one line on stderr. With stop_on_error it throws
// Error instead. Thread-safe.
std::optional<Image> load_sample(const Dataset& dataset, int64_t index);
// The same from the bytes of the image file, which `read` gives, to be resized to `least`: a JPEG may
// come at a fraction of its size (decode_reduced()).
using ReadImageFile = std::function<std::shared_ptr<const std::vector<uint8_t>>()>;
std::optional<Image> load_reduced_sample(const Dataset& dataset, int64_t index, ImageSize least,
                                         const ReadImageFile& read);

}  // namespace sextant::data
