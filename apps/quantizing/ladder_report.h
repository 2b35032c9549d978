// SPDX-License-Identifier: Apache-2.0
// The report of `sextant ladder`: its rungs as text, JSON and an HTML page.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/config.h"

namespace sextant::apps {

// One way of deploying the same model.
struct Rung {
  std::string name;   // "fp32", "naive", "ptq", ...
  std::string title;  // the displayed name, "naive PTQ"
  std::string file;   // deploy file, relative to the ladder's folder
  double map50 = 0, map50_95 = 0;
  double milliseconds = 0;               // per image, median; all rungs interleaved
  double speedup = 0;                    // over fp32
  int64_t bytes = 0;                     // of the file
  int64_t layers = 0, float_layers = 0;  // with weights; those of them in float
  int64_t requantizations = 0;           // integer rescalings between layers
  // The int8 engine compared with the fake-quant simulation on the verification images.
  int64_t max_steps = 0;
  int64_t differing = 0, values = 0;
  double seconds = 0;  // time to make it
};

struct Ladder {
  std::string model;
  std::string data;
  int image_size = 0;        // of the evaluation
  int bench_image_size = 0;  // for timing, at batch `bench_batch`
  int64_t bench_batch = 1;
  int threads = 0;
  std::vector<Rung> rungs;  // the first is fp32
};

// One line per rung; drops are points (hundredths) of mAP50-95.
std::string ladder_text(const Ladder& ladder);
Json ladder_json(const Ladder& ladder);
Json rung_json(const Rung& rung);
// Throws Error naming `where` for JSON that rung_json() did not write.
Rung rung_from_json(const Json& json, const std::string& where);
// A self-contained page, without scripts or external resources.
std::string ladder_html(const Ladder& ladder);

}  // namespace sextant::apps
