// SPDX-License-Identifier: Apache-2.0
// Quantization-aware training: the deploy graph itself, quantized, is trained
// (quant/training/trainable_graph.h), by the detection loss and by distillation from the float
// graph.
//
// The models of its run folder (apps/training/run_folder.h) are int8 deploy files: last.safetensors,
// best.safetensors, and start.safetensors, the starting point. mAP is that of the int8 engine. Row
// 0 of results.csv belongs to the start; best.safetensors is the start until a better epoch.
#pragma once

#include <filesystem>

#include "apps/quantizing/qat_config.h"
#include "apps/training/run.h"

namespace sextant::apps {

// Trains into `out`; `resume` and `stop_after` as in train(). `start` replaces config.start
// (ignored when a run is resumed). Throws Error like train() and make_start().
RunResult train_qat(const QatConfig& config, const std::filesystem::path& out, bool resume,
                    int64_t stop_after = 0, const deploy::Graph* start = nullptr);

}  // namespace sextant::apps
