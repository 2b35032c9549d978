// SPDX-License-Identifier: Apache-2.0
// Detection over many pictures: reading, the engine and writing at the same time.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "apps/detecting/inputs.h"
#include "apps/detecting/results.h"
#include "data/drawing/draw.h"
#include "deploy/detect/detector.h"

namespace sextant::apps {

struct DetectOutputs {
  std::string folder;
  // Empty: jsonl with a video or standard input, else coco.
  std::vector<ResultFormat> formats;
  bool confidences = false;  // in yolo files
  bool pictures = true;      // annotated: PNG, or JPEG; for a video a video
  bool jpeg = false;
  bool crops = false;  // crops/<class>/<stem>_<n>.jpg, the boxes cut out
  data::DrawStyle style;
};

struct DetectSummary {
  int64_t pictures = 0;
  int64_t boxes = 0;
  int64_t broken = 0;  // images that could not be read
  double seconds = 0;  // from the first picture to the last file
  deploy::DetectorTimes times;
};

// A broken image is reported on stderr, and the others are processed. Throws Error before reading
// anything when an output file is also an input (including `model`), and when no image can be read;
// Interrupted on a signal, after writing the results so far.
DetectSummary detect(const deploy::Graph& graph, const deploy::DetectorConfig& config,
                     const std::string& model, const std::vector<Input>& inputs,
                     const std::optional<RawFrames>& raw, const DetectOutputs& outputs);

}  // namespace sextant::apps
