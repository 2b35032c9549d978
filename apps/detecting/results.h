// SPDX-License-Identifier: Apache-2.0
// The result files of `detect`.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "core/enum_names.h"
#include "data/drawing/draw.h"

namespace sextant::apps {

enum class ResultFormat { kCoco, kJsonLines, kCsv, kYolo };
constexpr auto enum_names(ResultFormat) {
  return make_enum_names<ResultFormat>("format", {{ResultFormat::kCoco, "coco"},
                                                  {ResultFormat::kJsonLines, "jsonl"},
                                                  {ResultFormat::kCsv, "csv"},
                                                  {ResultFormat::kYolo, "yolo"}});
}

// The boxes of one picture.
struct FrameBoxes {
  std::string name;    // the file, as given
  int64_t frame = -1;  // in a video or on standard input
  std::string stem;    // of the files written for it
  int64_t image_id = 0;
  int width = 0;
  int height = 0;
  std::vector<data::LabelledBox> boxes;  // pixels, best first
};

class ResultWriter {
 public:
  virtual ~ResultWriter() = default;
  virtual void add(const FrameBoxes& found) = 0;
  // Called after an interrupt as well, to write the results so far.
  virtual void finish() {}
};

// Files in `folder`; each throws Error naming the file that cannot be written.
//   coco   detections.json: COCO's results form, which pycocotools' loadRes() takes: an array of
//          {"image_id", "category_id", "bbox": [x, y, width, height], "score"}, with "file_name",
//          "category_name" and, for a video, "frame" added. image_id counts the pictures from 0,
//          category_id the classes from 0.
//   jsonl  detections.jsonl: one line per picture, written immediately: {"file", "frame",
//          "image_id", "width", "height", "boxes": [{"class", "name", "score", "box": [x1, y1, x2,
//          y2]}]}
//   csv    detections.csv: file,frame,class,name,score,x1,y1,x2,y2, one row per box
//   yolo   labels/<stem>.txt: "class cx cy width height" relative to the picture, one row per box;
//          with `confidences` followed by the score
std::unique_ptr<ResultWriter> make_result_writer(ResultFormat format,
                                                 const std::filesystem::path& folder,
                                                 bool confidences);
// The file that holds all results of a format; empty for yolo.
std::string result_file(ResultFormat format);

}  // namespace sextant::apps
