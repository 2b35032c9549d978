// What `sextant ladder` shows: its rungs as text, JSON and an HTML page.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/config.h"

namespace sextant::apps {

// One way of deploying the same model.
struct Rung {
  std::string name;   // "fp32", "naive", "ptq", ...
  std::string title;  // for people: "naive PTQ"
  std::string file;   // deploy file, relative to the ladder's folder
  double map50 = 0, map50_95 = 0;
  double milliseconds = 0;               // per image, median; all rungs in turns
  double speedup = 0;                    // times as fast as fp32
  int64_t bytes = 0;                     // of the file
  int64_t layers = 0, float_layers = 0;  // with weights; of these, not in int8
  int64_t requantizations = 0;           // integer rescalings between layers
  // int8 engine against the fake-quant simulation on the verification images.
  int64_t max_steps = 0;
  int64_t differing = 0, values = 0;
  double seconds = 0;  // that making it took
};

struct Ladder {
  std::string model;
  std::string data;
  int image_size = 0;        // of the evaluation
  int bench_image_size = 0;  // of the timing, at batch `bench_batch`
  int64_t bench_batch = 1;
  int threads = 0;
  std::vector<Rung> rungs;  // the first is fp32
};

// A line for each rung; drops are points of mAP50-95, in hundredths.
std::string ladder_text(const Ladder& ladder);
Json ladder_json(const Ladder& ladder);
Json rung_json(const Rung& rung);
// Throws Error naming `where` for what rung_json() did not write.
Rung rung_from_json(const Json& json, const std::string& where);
// A page of its own, without scripts or anything from outside.
std::string ladder_html(const Ladder& ladder);

}  // namespace sextant::apps
