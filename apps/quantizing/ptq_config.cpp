// SPDX-License-Identifier: Apache-2.0
#include "apps/quantizing/ptq_config.h"

namespace sextant::apps {

void ptq_fields(ConfigFields& f, quant::PtqConfig& c) {
  f("method", c.method);
  f("percentile", c.percentile, 50, 100);
  f("images", c.images, 1, 1e6);
  f("weights", c.weights);
  f("naive", c.naive);
  f("split_identity", c.split_identity);
  f("equalize", c.equalize);
  f("bias_correction", c.bias_correction);
  f("rounding", c.rounding);
  f("float_layers", c.float_layers);
}

}  // namespace sextant::apps
