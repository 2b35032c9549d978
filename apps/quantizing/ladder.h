// SPDX-License-Identifier: Apache-2.0
// The quantization ladder: deploys one model in every way, from float to quantization-aware
// training, and measures all in the same way.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "apps/quantizing/ladder_report.h"
#include "apps/quantizing/qat_config.h"
#include "apps/training/train_config.h"
#include "quant/ptq/ptq.h"

namespace sextant::apps {

// See docs/ladder.md.
enum class RungKind { kFp32, kNaive, kPtq, kPtqPlus, kPartial, kQat, kQatCwd };
constexpr auto enum_names(RungKind) {
  return make_enum_names<RungKind>("rung", {{RungKind::kFp32, "fp32"},
                                            {RungKind::kNaive, "naive"},
                                            {RungKind::kPtq, "ptq"},
                                            {RungKind::kPtqPlus, "ptq_plus"},
                                            {RungKind::kPartial, "partial"},
                                            {RungKind::kQat, "qat"},
                                            {RungKind::kQatCwd, "qat_cwd"}});
}

struct LadderConfig {
  std::string where = "config";  // the config's file, for messages
  std::string model;             // checkpoint or float deploy file
  DataConfig data;               // ranges and training use `train`, everything is measured on `val`
  int image_size = 0;            // 0: as trained
  // The device of calibration, evaluation and training. Timing and verification use the CPU's
  // engine.
  deploy::DeviceChoice device = deploy::DeviceChoice::kAuto;
  // In this order; kFp32 has to be first.
  std::vector<RungKind> rungs = {RungKind::kFp32,    RungKind::kNaive,   RungKind::kPtq,
                                 RungKind::kPtqPlus, RungKind::kPartial, RungKind::kQat,
                                 RungKind::kQatCwd};
  quant::PtqConfig ptq;       // of "ptq"
  quant::PtqConfig ptq_plus;  // equalization, bias correction and learned rounding on top
  double max_drop = 0.3;      // of "partial", in points of mAP50-95
  Json qat = Json::object();  // keys of a qat config (docs/qat.md), for both "qat" rungs
  int bench_image_size = 640;
  int64_t bench_batch = 1;
  int bench_runs = 20;
  int64_t verify_images = 4;  // engine against simulation

  void fields(ConfigFields& f);
  Json json() const { return fields_to_json(*this); }

  // The config of a kQat or kQatCwd rung, except for the image size. Throws Error naming the key
  // under "qat".
  QatConfig qat_config(RungKind kind) const;
};

// Throws Error as parse_train_config().
LadderConfig parse_ladder_config(const Json& json, const std::string& where,
                                 const std::string& folder);

// Writes into `out` a deploy file for each rung, ladder.txt, ladder.json and ladder.html, and the
// run folders of the "qat" rungs. With `resume`, finished rungs are kept and a training run is
// resumed. Throws Error when `out` holds a ladder and `resume` is not given,
// or when its config differs, naming the key.
Ladder climb(const LadderConfig& config, const std::filesystem::path& out, bool resume);

}  // namespace sextant::apps
