// SPDX-License-Identifier: Apache-2.0
// Small good files, to be mutated or to be read beside what is.
#pragma once

#include "core/json.h"
#include "core/safetensors.h"
#include "deploy/graph/graph.h"

namespace sextant::fuzz {

const SafeTensors& sample_checkpoint();
const SafeTensors& sample_deploy_file();
const deploy::Graph& sample_quantized_graph();
// As a run folder has it.
const Json& sample_run_config();

}  // namespace sextant::fuzz
