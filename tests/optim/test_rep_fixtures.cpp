// SPDX-License-Identifier: Apache-2.0
// RepOptimizer against the official implementations: re-initialised weights, gradient multipliers
// and five steps, for every recorded run.
#include "core/config.h"
#include "optim/adam.h"
#include "optim/parameters.h"
#include "optim/rep_scales.h"
#include "optim/sgd.h"
#include "support/fixtures.h"

using namespace sextant;
using namespace sextant::optim;

namespace {

// A recorded weight in our layout. Of parameters that are not targets (a transposed convolution
// among them) the layout does not matter: they are updated element by element.
Tensor ours(const Tensor& t) { return t.shape().rank() == 4 ? nchw_to_nhwc(t) : t.clone(); }

// Which of the two official implementations recorded the run: it decides the names of a few things.
struct Recorded {
  std::vector<std::string> blocks;  // names, in the order of the scales
  std::string multipliers;
  std::unique_ptr<Optimizer> (*make)(const SafeTensors&, const std::vector<NamedParameter>&);
  RepRule rule = RepRule::kSgd;
};

double number(const Json& hyper, const std::string& key) {
  return std::stod(hyper.at(key).get<std::string>());
}

std::unique_ptr<Optimizer> make_yolov6_sgd(const SafeTensors& f,
                                           const std::vector<NamedParameter>& p) {
  const double decay =
      scaled_weight_decay(std::stod(f.meta("weight_decay_cfg")), std::stoll(f.meta("batch_size")));
  CHECK(decay == Approx(std::stod(f.meta("weight_decay_scaled"))));
  CHECK(f.meta("dampening") == "0");
  return std::make_unique<Sgd>(
      p, SgdOptions{.weight_decay = decay, .nesterov = f.meta("nesterov") == "True"});
}
std::unique_ptr<Optimizer> make_sgd(const SafeTensors& f, const std::vector<NamedParameter>& p) {
  const Json h = Json::parse(f.meta("hyper"));
  return std::make_unique<Sgd>(p, SgdOptions{.weight_decay = number(h, "weight_decay"),
                                             .nesterov = h["nesterov"] == "True"});
}
std::unique_ptr<Optimizer> make_adamw(const SafeTensors& f, const std::vector<NamedParameter>& p) {
  const Json h = Json::parse(f.meta("hyper"));
  AdamOptions o{.weight_decay = number(h, "weight_decay"), .decoupled = true};
  o.eps = number(h, "eps");
  const std::string betas = h.at("betas");  // "(0.9, 0.999)"
  o.beta1 = std::stod(betas.substr(1));
  o.beta2 = std::stod(betas.substr(betas.find(',') + 1));
  return std::make_unique<Adam>(p, o);
}

std::optional<Recorded> recorded(const SafeTensors& f, const std::string& name) {
  if (name.starts_with("optim/repvgg_optimizer_"))
    return Recorded{Json::parse(f.meta("blocks")), "output.grad_mask.", make_yolov6_sgd};
  if (!name.starts_with("optim/repoptimizers_")) return std::nullopt;
  const std::string& rule = f.meta("rule");
  if (rule != "sgd" && rule != "adamw") return std::nullopt;
  const bool adam = rule == "adamw";
  Recorded r{
      {}, "output.grad_mult.", adam ? make_adamw : make_sgd, adam ? RepRule::kAdam : RepRule::kSgd};
  for (const std::string conv : Json::parse(f.meta("convs")))  // "<block>.conv"
    r.blocks.push_back(conv.substr(0, conv.rfind('.')));
  return r;
}

RepScales recorded_scales(const SafeTensors& f, const std::vector<std::string>& blocks) {
  const auto it = f.metadata.find("use_identity_scales_for_reinit");
  const bool from_one = it != f.metadata.end() && it->second == "False";
  SafeTensors named;
  named.path = f.path;
  for (size_t i = 0; i < blocks.size(); ++i)
    for (const std::string branch : {"conv", "1x1", "identity"})
      if (const Tensor* t = f.find(fmt::format("input.scales.{}.{}", i, branch)))
        named.add(blocks[i] + ".scale_" + branch + ".weight",
                  branch == "identity" && from_one ? Tensor::full(t->shape(), 1.0f) : *t);
  return extract_scales(named);
}

// lr and momentum of a step, one set for all groups where the run has no table of them.
void take_step(const SafeTensors& f, int64_t step, Optimizer& optimizer) {
  const Tensor* table = f.find("input.lr_momentum_wd");  // [step][group][lr, momentum, decay]
  std::array<double, kGroups> lr{};
  double momentum = 0;
  if (table == nullptr) {
    const Json h = Json::parse(f.meta("hyper"));
    lr.fill(number(h, "lr"));
    if (h.contains("momentum")) momentum = number(h, "momentum");
  } else {
    const float* row = table->f32() + (step - 1) * 3 * kGroups;
    momentum = row[1];
    for (size_t g = 0; g < lr.size(); ++g) {
      lr[g] = row[3 * g];
      REQUIRE(row[3 * g + 1] == row[1]);
      const bool weights = g == static_cast<size_t>(ParameterKind::kWeight);
      CHECK(row[3 * g + 2] == Approx(weights ? std::stod(f.meta("weight_decay_scaled")) : 0.0));
    }
  }
  optimizer.step(lr, momentum);
}

void run_recorded(const SafeTensors& f, const Recorded& r) {
  auto parameters = test::fixture_parameters(f, ours);
  const RepScales scales = recorded_scales(f, r.blocks);
  REQUIRE(scales.blocks.size() == r.blocks.size());
  std::vector<RepHandler> handlers = rep_handlers(scales, scales, parameters);
  for (RepHandler& handler : handlers)
    for (size_t i = 0; i < r.blocks.size(); ++i)
      if (handler.parameter == r.blocks[i] + ".conv.weight")
        for (LinearBranch& b : handler.branches)
          if (b.kind == LinearBranch::Kind::kConv && b.kernel == 1)
            b.weight = ours(f.at(fmt::format("input.kernel_1x1.{}", i)));
  Rng rng(1);
  reinitialise(handlers, parameters, rng);
  set_multipliers(handlers, parameters, r.rule);

  double worst_start = 0, worst_multiplier = 0, worst_step = 0;
  for (size_t i = 0; i < r.blocks.size(); ++i)
    for (const NamedParameter& p : parameters)
      if (p.name == r.blocks[i] + ".conv.weight") {
        const auto compare = [&](const Tensor& mine, const std::string& name, double& worst) {
          worst = std::max(worst, test::relative_difference(mine, ours(f.at(name))));
        };
        compare(p.variable.data(), fmt::format("output.reinit.{}", i), worst_start);
        REQUIRE(p.multiplier.defined());
        compare(p.multiplier, r.multipliers + std::to_string(i), worst_multiplier);
      }

  const auto optimizer = r.make(f, parameters);
  int64_t steps = 0;
  while (f.find(fmt::format("output.step{}.{}", steps + 1, parameters[0].name)) != nullptr) {
    const std::string tag = fmt::format("step{}.", ++steps);
    for (const NamedParameter& p : parameters)
      p.variable.meta()->grad = ours(f.at("input.grad." + tag + p.name));
    take_step(f, steps, *optimizer);
    for (const NamedParameter& p : parameters)
      worst_step = std::max(
          worst_step,
          test::relative_difference(p.variable.data(), ours(f.at("output." + tag + p.name))));
  }
  CHECK(steps > 0);
  double worst_state = 0;
  for (const auto& [name, tensor] : optimizer->state("output."))
    if (const size_t at = name.find("momentum_buffer."); at != std::string::npos)
      if (const Tensor* t = f.find("output.momentum." + name.substr(at + 16)))
        worst_state = std::max(worst_state, test::relative_difference(tensor, ours(*t)));
  INFO("largest differences: start " << worst_start << ", multipliers " << worst_multiplier
                                     << ", steps " << worst_step << ", momentum " << worst_state);
  CHECK(worst_start < 3e-7);
  CHECK(worst_multiplier < 3e-7);
  CHECK(worst_step < 1e-6);
  CHECK(worst_state < 1e-6);
}

}  // namespace

TEST_CASE("RepOptimizer starts and steps as the official implementations") {
  for (const std::string& name : test::fixture_names("optim/rep")) {
    CAPTURE(name);
    const SafeTensors f = *test::fixture(name);
    const auto r = recorded(f, name);
    CHECK(r);  // else no case knows this run
    if (r) run_recorded(f, *r);
  }
}
