// Where the parts of a dataset are: what a folder, a JSON file or a data.yaml says, as one struct.
// Used by open_dataset() only.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "data/dataset/dataset.h"

namespace sextant::data {

enum class DatasetFormat { kYolo, kCoco };
constexpr auto enum_names(DatasetFormat) {
  return make_enum_names<DatasetFormat>(
      "dataset format", {{DatasetFormat::kYolo, "yolo"}, {DatasetFormat::kCoco, "coco"}});
}

struct DatasetDescription {
  std::string where;  // for messages
  DatasetFormat format = DatasetFormat::kYolo;
  std::vector<std::string> names;
  // By split: folders of images or list files.
  std::map<std::string, std::vector<std::filesystem::path>> images;
  std::map<std::string, std::filesystem::path> labels;       // by split, where given (yolo)
  std::map<std::string, std::filesystem::path> annotations;  // by split (coco)
};

// Throws Error naming the file and key.
DatasetDescription describe_dataset(const std::filesystem::path& path);

// A box as it stands in a file, with its place in it.
struct RawBox {
  double category = 0;
  double x1 = 0, y1 = 0, x2 = 0, y2 = 0;  // relative to the image
  double tolerance_x = 0, tolerance_y = 0;
  bool crowd = false;
  double area = 0;
};
// Checks a box and appends it to the sample, or adds an issue (kind, message and `at` filled in).
void add_box(const RawBox& raw, int64_t num_classes, const LabelIssue& at, Sample& sample,
             LabelReport& report);

// Reads the size of the image's header into the sample; false, with an issue, when it is broken.
bool read_header(Sample& sample, LabelReport& report);

void read_yolo_split(const DatasetDescription& description, const std::string& split,
                     Dataset& dataset);
void read_coco_split(const DatasetDescription& description, const std::string& split,
                     Dataset& dataset);

}  // namespace sextant::data
