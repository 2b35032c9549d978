// The optimizer that a config asks for.
#pragma once

#include <memory>
#include <vector>

#include "apps/train_config.h"
#include "optim/optimizer.h"
#include "optim/rep_handler.h"

namespace sextant::apps {

// Weight decay is scaled to the images of a step. Parameters with a multiplier keep it.
std::unique_ptr<optim::Optimizer> make_optimizer(
    const RunConfig& config, const std::vector<optim::NamedParameter>& parameters);

// The multipliers that go with it.
optim::RepRule rep_rule(const SolverConfig& solver);

}  // namespace sextant::apps
