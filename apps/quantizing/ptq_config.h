// Post-training quantization as part of a JSON config.
#pragma once

#include "core/config.h"
#include "quant/ptq/ptq.h"

namespace sextant::apps {

// The keys that docs/ladder.md lists; what is absent keeps its value. Throws Error naming
// file and key.
void read_ptq_config(ConfigReader& reader, quant::PtqConfig& config);
Json ptq_json(const quant::PtqConfig& config);

}  // namespace sextant::apps
