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
  double cwd_weight = 1.0;  // channel-wise, of the neck's outputs; 0: none
  double cwd_temperature = 1.0;
  double logits_weight = 1.0;  // of the class scores; 0: none
  double logits_temperature = 1.0;
  std::vector<std::string> features;  // tensors instead of the neck's outputs

  bool wanted() const { return cwd_weight > 0 || logits_weight > 0; }
  void fields(ConfigFields& f);
};

// Until resolve(), `epochs` 0, `image_size` 0 and a negative solver.lr0 mean: from the model;
// solver.nominal_batch 0: `batch`.
struct QatConfig : RunConfig {
  QatConfig();

  std::string model;  // checkpoint or float deploy file: where it starts, and the teacher
  std::string start;  // quantized deploy file of the same model to start from, or nothing
  quant::PtqConfig calibration;
  std::string calibration_split;          // of the images that ranges are taken from
  std::vector<std::string> float_layers;  // names of nodes, with *, that stay in float
  bool learn_scales = false;              // activations' ranges are learned (LSQ)
  quant::WeightRanges weight_ranges = quant::WeightRanges::kFrozen;
  double loss_weight = 1.0;  // of the detection loss
  DistillConfig distill;
  Json loss = Json::object();  // as given; what is absent comes from the model

  void fields(ConfigFields& f);
  Json json() const { return fields_to_json(*this); }

  // Fills in what was not given: the model's image size, a tenth of the epochs and a hundredth of
  // the rate of its training. Throws Error naming the key that does not fit the model.
  void resolve(const SourceModel& model);
};

// Reads and validates as parse_train_config(); `prefix` comes before the keys in messages.
QatConfig parse_qat_config(const Json& json, const std::string& where, const std::string& folder,
                           const std::string& prefix = "");

}  // namespace sextant::apps
