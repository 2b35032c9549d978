// SPDX-License-Identifier: Apache-2.0
// The JSON config of quantization-aware training; docs/qat.md has every key.
#pragma once

#include <string>
#include <vector>

#include "apps/training/train_config.h"
#include "quant/ptq/ptq.h"
#include "quant/training/trainable_graph.h"

namespace sextant::apps {

struct SourceModel;

struct DistillConfig {
  double cwd_weight = 1.0;  // channel-wise, for the neck's outputs; 0: none
  double cwd_temperature = 1.0;
  double logits_weight = 1.0;  // for the class scores; 0: none
  double logits_temperature = 1.0;
  std::vector<std::string> features;  // tensors instead of the neck's outputs

  bool wanted() const { return cwd_weight > 0 || logits_weight > 0; }
  void fields(ConfigFields& f);
};

// Until resolve(), `epochs` 0, `image_size` 0 and a negative solver.lr0 mean that the value comes
// from the model; solver.nominal_batch 0 means `batch`.
struct QatConfig : RunConfig {
  QatConfig();

  std::string model;  // checkpoint or float deploy file: the start and the teacher
  std::string start;  // quantized deploy file of the same model to start from; may be empty
  quant::PtqConfig calibration;
  std::string calibration_split;          // the split to calibrate on
  std::vector<std::string> float_layers;  // names or patterns (*) of nodes to keep in float
  bool learn_scales = false;              // learn activation ranges (LSQ)
  quant::WeightRanges weight_ranges = quant::WeightRanges::kFrozen;
  double loss_weight = 1.0;  // of the detection loss
  DistillConfig distill;
  Json loss = Json::object();  // as given; absent keys come from the model

  void fields(ConfigFields& f);
  Json json() const { return fields_to_json(*this); }

  // Fills in missing values: the model's image size, and a tenth of the epochs and a hundredth of
  // the learning rate of its training. Throws Error naming the key that does not fit the model.
  void resolve(const SourceModel& model);
};

// Reads and validates like parse_train_config(); messages put `prefix` before the keys.
QatConfig parse_qat_config(const Json& json, const std::string& where, const std::string& folder,
                           const std::string& prefix = "");

}  // namespace sextant::apps
