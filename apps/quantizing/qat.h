// Quantization-aware training: the deploy graph itself, quantized, is trained on (quant/
// trainable_graph.h), by the detection loss and by distillation from the float graph.
//
// The run folder is as that of a training (apps/training/trainer.h) but for the models, which are
// deploy files: start.safetensors (what it started from, quantized), last.safetensors and
// best.safetensors (int8). mAP is that of the int8 engine. Row 0 of results.csv is the start's;
// best.safetensors is the start as long as nothing is better.
#pragma once

#include <filesystem>
#include <string>

#include "apps/quantizing/qat_config.h"

namespace sextant::apps {

struct QatResult {
  std::string file;  // the best deploy file
  double start_map50 = -1, start_map50_95 = -1;
  double best_map50 = -1, best_map50_95 = -1;  // of `file`
  int64_t best_epoch = -1;                     // 0: the start
  double last_map50 = -1, last_map50_95 = -1;  // after the last epoch
  double seconds_per_epoch = 0;
  bool complete = false;  // whether no epoch is left
};

// Trains into `out`; `resume` and `stop_after` as in train(). `start` replaces what config.start
// says (not when a run is resumed: it started already). Throws Error as train(), and as
// make_start().
QatResult train_qat(const QatConfig& config, const std::filesystem::path& out, bool resume,
                    int64_t stop_after = 0, const deploy::Graph* start = nullptr);

}  // namespace sextant::apps
