// SPDX-License-Identifier: Apache-2.0
#include "apps/training/solver.h"

#include <cmath>

#include "models/yolov6.h"
#include "optim/adam.h"
#include "optim/sgd.h"

namespace sextant::apps {

std::unique_ptr<optim::Optimizer> make_optimizer(
    const RunConfig& config, const std::vector<optim::NamedParameter>& parameters) {
  const SolverConfig& s = config.solver;
  const double decay = optim::scaled_weight_decay(s.weight_decay, config.batch, s.nominal_batch);
  if (!s.adam()) return std::make_unique<optim::Sgd>(parameters, optim::SgdOptions{decay, true});
  optim::AdamOptions options;
  options.weight_decay = decay;
  options.decoupled = s.optimizer == OptimizerKind::kAdamW;
  options.beta1 = s.betas[0];
  options.beta2 = s.betas[1];
  return std::make_unique<optim::Adam>(parameters, options);
}

optim::Schedule make_schedule(const RunConfig& config, int64_t iterations_per_epoch,
                              bool by_iteration) {
  const SolverConfig& c = config.solver;
  optim::ScheduleConfig s;
  s.shape = c.schedule;
  s.epochs = config.epochs;
  s.iterations_per_epoch = iterations_per_epoch;
  s.lr0 = c.lr0;
  s.lrf = c.lrf;
  s.warmup_epochs = c.warmup_epochs;
  s.warmup_iterations = c.warmup_iterations;
  s.warmup_bias_lr = c.warmup_bias_lr;
  s.momentum = c.momentum;
  s.warmup_momentum = c.warmup_momentum;
  s.batch = config.batch;
  s.nominal_batch = c.nominal_batch;
  if (by_iteration) {  // as if an iteration were an epoch
    s.epochs *= iterations_per_epoch;
    s.iterations_per_epoch = 1;
    s.lag_one_epoch = false;
    if (s.warmup_iterations < 0)
      s.warmup_iterations =
          std::llround(s.warmup_epochs * static_cast<double>(iterations_per_epoch));
  }
  return optim::Schedule(s);
}

optim::RepRule rep_rule(const SolverConfig& solver) {
  return solver.adam() ? optim::RepRule::kAdam : optim::RepRule::kSgd;
}

optim::RepScales scales_of_search(Yolov6Config model) {
  model.training_mode = TrainingMode::kHyperSearch;
  return optim::extract_scales(Yolov6(model, 0));
}

}  // namespace sextant::apps
