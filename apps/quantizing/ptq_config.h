// SPDX-License-Identifier: Apache-2.0
// The keys of post-training quantization in a JSON config.
#pragma once

#include "core/config_fields.h"
#include "quant/ptq/ptq.h"

namespace sextant::apps {

// The keys that docs/ladder.md lists.
void ptq_fields(ConfigFields& f, quant::PtqConfig& config);

}  // namespace sextant::apps
