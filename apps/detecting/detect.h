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
  // Empty: jsonl where there is a video or standard input, else coco.
  std::vector<ResultFormat> formats;
  bool confidences = false;  // in yolo files
  bool pictures = true;      // annotated: PNG, or JPEG; of a video a video
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

// A broken image is named on stderr, the others are done. Throws Error before anything is read when
// a file to be written is an input, `model` included, and when no image at all can be read;
// Interrupted, with what was found so far written, on a signal.
DetectSummary detect(const deploy::Graph& graph, const deploy::DetectorConfig& config,
                     const std::string& model, const std::vector<Input>& inputs,
                     const std::optional<RawFrames>& raw, const DetectOutputs& outputs);

}  // namespace sextant::apps
