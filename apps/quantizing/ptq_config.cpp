#include "apps/quantizing/ptq_config.h"

namespace sextant::apps {

void read_ptq_config(ConfigReader& r, quant::PtqConfig& c) {
  r.choice("method", c.method, {"mse", "percentile", "entropy", "max"});
  r.number("percentile", c.percentile, 50, 100);
  r.number("images", c.images, 1, 1e6);
  r.choice("weights", c.weights, {"max", "mse"});
  r.get("naive", c.naive);
  r.get("split_identity", c.split_identity);
  r.choice("equalize", c.equalize, {"none", "weights", "activations"});
  r.get("bias_correction", c.bias_correction);
  r.choice("rounding", c.rounding, {"nearest", "adaround"});
  r.get("float_layers", c.float_layers);
}

Json ptq_json(const quant::PtqConfig& c) {
  return {{"method", c.method},     {"percentile", c.percentile},
          {"images", c.images},     {"weights", c.weights},
          {"naive", c.naive},       {"split_identity", c.split_identity},
          {"equalize", c.equalize}, {"bias_correction", c.bias_correction},
          {"rounding", c.rounding}, {"float_layers", c.float_layers}};
}

}  // namespace sextant::apps
