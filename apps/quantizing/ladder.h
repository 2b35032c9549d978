// The quantization ladder: one model, deployed in every way from float to quantization-aware
// training, measured alike.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "apps/quantizing/ladder_report.h"
#include "apps/training/train_config.h"
#include "quant/ptq/ptq.h"

namespace sextant::apps {

struct LadderConfig {
  std::string model;   // checkpoint or float deploy file
  DataConfig data;     // ranges and training from `train`, everything measured on `val`
  int image_size = 0;  // 0: as trained
  // Of calibration, evaluation and training; what is timed and verified is the CPU's engine.
  std::string device = "auto";
  // In this order; "fp32" has to be the first. docs/ladder.md says what each is.
  std::vector<std::string> rungs = {"fp32",    "naive", "ptq",    "ptq_plus",
                                    "partial", "qat",   "qat_cwd"};
  quant::PtqConfig ptq;       // of "ptq", and what "partial" and both "qat" start from
  quant::PtqConfig ptq_plus;  // equalization, bias correction and learned rounding on top
  double max_drop = 0.3;      // of "partial", in points of mAP50-95
  Json qat = Json::object();  // keys of a qat config (docs/qat.md), for both "qat" rungs
  int bench_image_size = 640;
  int64_t bench_batch = 1;
  int bench_runs = 20;
  int64_t verify_images = 4;  // engine against simulation

  Json json() const;
};

// Throws Error as load_train_config().
LadderConfig load_ladder_config(const std::string& path, const std::vector<std::string>& overrides);

// Climbs into `out`: a deploy file for each rung, ladder.txt, ladder.json and ladder.html, and the
// run folders of the "qat" rungs. With `resume`, rungs that are there already are kept, and a
// training goes on where it was. Throws Error when `out` holds a ladder and `resume` is not given,
// or when its config differs, naming the key.
Ladder climb(const LadderConfig& config, const std::filesystem::path& out, bool resume);

}  // namespace sextant::apps
