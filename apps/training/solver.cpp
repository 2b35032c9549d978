#include "apps/training/solver.h"

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
  options.decoupled = s.optimizer == "adamw";
  options.beta1 = s.betas[0];
  options.beta2 = s.betas[1];
  return std::make_unique<optim::Adam>(parameters, options);
}

optim::RepRule rep_rule(const SolverConfig& solver) {
  return solver.adam() ? optim::RepRule::kAdam : optim::RepRule::kSgd;
}

optim::RepScales scales_of_search(Yolov6Config model) {
  model.training_mode = "hyper_search";
  return optim::extract_scales(Yolov6(model, 0));
}

}  // namespace sextant::apps
