// The JSON config of quantization-aware training; docs/qat.md has every key.
#pragma once

#include <string>
#include <vector>

#include "apps/training/train_config.h"
#include "quant/ptq/ptq.h"
#include "quant/training/trainable_graph.h"

namespace sextant::apps {

struct DistillConfig {
  double cwd_weight = 1.0;  // channel-wise, of the neck's outputs; 0: none
  double cwd_temperature = 1.0;
  double logits_weight = 1.0;  // of the class scores; 0: none
  double logits_temperature = 1.0;
  std::vector<std::string> features;  // tensors instead of the neck's outputs

  bool wanted() const { return cwd_weight > 0 || logits_weight > 0; }
  Json json() const;
};

struct QatConfig : RunConfig {
  std::string model;  // checkpoint or float deploy file: where it starts, and the teacher
  std::string start;  // quantized deploy file of the same model to start from, or nothing
  quant::PtqConfig calibration;
  std::string calibration_split;          // of the images that ranges are taken from
  std::vector<std::string> float_layers;  // names of nodes, with *, that stay in float
  bool learn_scales = false;              // activations' ranges are learned (LSQ)
  std::string weight_ranges = "frozen";   // or follow, learned
  double loss_weight = 1.0;               // of the detection loss
  DistillConfig distill;
  Json loss = Json::object();  // as given; what is absent comes from the model

  quant::WeightRanges weights() const;
  Json json() const;
};

// Reads and validates as load_train_config(). Reads the model's file too: its image size, and the
// epochs and rate of its training, of which a tenth and a hundredth are the defaults.
QatConfig load_qat_config(const std::string& path, const std::vector<std::string>& overrides);
QatConfig parse_qat_config(const Json& json, const std::string& where, const std::string& folder);

}  // namespace sextant::apps
