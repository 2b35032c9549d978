// Quantization-aware training: the deploy graph itself, quantized, is trained
// (quant/training/trainable_graph.h), by the detection loss and by distillation from the float
// graph.
//
// The models of its run folder (apps/training/run_folder.h) are int8 deploy files: last.safetensors,
// best.safetensors, and start.safetensors, what it started from. mAP is that of the int8 engine. Row
// 0 of results.csv is the start's; best.safetensors is the start as long as nothing is better.
#pragma once

#include <filesystem>

#include "apps/quantizing/qat_config.h"
#include "apps/training/run.h"

namespace sextant::apps {

// Trains into `out`; `resume` and `stop_after` as in train(). `start` replaces what config.start
// says (not when a run is resumed: it started already). Throws Error as train(), and as
// make_start().
RunResult train_qat(const QatConfig& config, const std::filesystem::path& out, bool resume,
                    int64_t stop_after = 0, const deploy::Graph* start = nullptr);

}  // namespace sextant::apps
