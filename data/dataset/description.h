// SPDX-License-Identifier: Apache-2.0
// The locations of the parts of a dataset, from a folder, a JSON file or a data.yaml, in one
// struct, for open_dataset(), and for who wants to know which splits there are.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/dataset/dataset.h"

namespace sextant::data {

enum class DatasetFormat { kYolo, kCoco, kVoc };
constexpr auto enum_names(DatasetFormat) {
  return make_enum_names<DatasetFormat>("dataset format", {{DatasetFormat::kYolo, "yolo"},
                                                           {DatasetFormat::kCoco, "coco"},
                                                           {DatasetFormat::kVoc, "voc"}});
}

struct DatasetDescription {
  std::string where;  // for messages
  DatasetFormat format = DatasetFormat::kYolo;
  std::vector<std::string> names;
  // Folders of images or list files, by split.
  std::map<std::string, std::vector<std::filesystem::path>> images;
  std::map<std::string, std::filesystem::path> labels;       // by split, if given (yolo)
  std::map<std::string, std::filesystem::path> annotations;  // by split: file (coco), folder (voc)
  std::filesystem::path listed_in;  // voc: folder of images that lists name without extension
};

// Throws Error naming the file and key.
DatasetDescription describe_dataset(const std::filesystem::path& path);
// Parses a data.yaml; `text` is its contents.
DatasetDescription parse_data_yaml(std::string_view text, const std::filesystem::path& file);

// An image of a split, and the path of its labels.
struct ImageEntry {
  std::string image;
  std::filesystem::path labels;
};

// The readers of one split. They fill `dataset`: class names if the description has none, samples
// with labels, and the report.
void read_yolo_split(const DatasetDescription& description, const std::string& split,
                     Dataset& dataset);
void read_coco_split(const DatasetDescription& description, const std::string& split,
                     Dataset& dataset);
void read_voc_split(const DatasetDescription& description, const std::string& split,
                    Dataset& dataset);

// The non-blank lines of a list of images, with their line numbers from 1.
std::vector<std::pair<int64_t, std::string>> list_lines(std::string_view text);
// The file that a line of a list names: relative to the list, or, as older tools write it, to the
// current folder where only that one exists.
std::filesystem::path listed_file(const std::filesystem::path& list, const std::string& line);

class SampleBoxes;
// The labels of one image in YOLO text, as read_yolo_split() takes them. A row of five columns is a
// box; a class and three or more points are a polygon, whose bounding box is used.
void parse_yolo_labels(std::string_view text, const std::string& file, SampleBoxes& boxes,
                       LabelReport& report);

}  // namespace sextant::data
