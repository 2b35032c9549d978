// SPDX-License-Identifier: Apache-2.0
#include "models/loss/loss_config.h"

#include <fmt/format.h>

#include <algorithm>

namespace sextant {

void LossConfig::fields(ConfigFields& f) {
  constexpr double kMost = 1e6;
  f("cls", cls_loss);
  f("iou", iou_type);
  f("assigner", assigner);
  f("iou_alpha", iou_alpha, 1.0, 10.0);
  f("atss_warmup_epochs", atss_warmup_epochs, 0, kMost);
  f("class_weight", class_weight, 0, kMost);
  f.verbatim("class_weights", class_weights);
  for (const auto& [name, weight] : class_weights.items())
    f.check(
        weight.is_number() && weight.get<double>() >= 0 && weight.get<double>() <= kMost,
        "class_weights",
        fmt::format("gives '{}' {}, must be a number in [0, {}]", name, short_json(weight), kMost));
  f("iou_weight", iou_weight, 0, kMost);
  f("dfl_weight", dfl_weight, 0, kMost);
  f("objectness_weight", objectness_weight, 0, kMost);
  f("topk", topk, 1, 1000);
  f("topk_ab", topk_ab, 1, 1000);
  f("assign_alpha", assign_alpha, 0, 100);
  f("assign_beta", assign_beta, 0, 100);
  f("atss_topk", atss_topk, 1, 1000);
  f("simota_radius", simota_radius, 0, 1000);
  f("simota_dynamic_k", simota_dynamic_k, 1, 1000);
  f("simota_iou_weight", simota_iou_weight, 0, kMost);
  f("varifocal_alpha", varifocal_alpha, 0, kMost);
  f("varifocal_gamma", varifocal_gamma, 1, 100);
  f("focal_alpha", focal_alpha, 0, 1);
  f("focal_gamma", focal_gamma, 1, 100);
  f("quality_focal_beta", quality_focal_beta, 1, 100);
  f("poly_epsilon", poly_epsilon, -1, kMost);
  f("distill_class_weight", distill_class_weight, 0, kMost);
  f("distill_dfl_weight", distill_dfl_weight, 0, kMost);
  f("distill_feat_weight", distill_feat_weight, 0, kMost);
  f("temperature", temperature, 0.01, 1000);
}

void LossConfig::name_classes(const std::vector<std::string>& names, const std::string& where) {
  weight_of_class.clear();
  if (class_weights.empty()) return;
  weight_of_class.assign(names.size(), 1.0f);
  for (const auto& [name, weight] : class_weights.items()) {
    const auto at = std::ranges::find(names, name);
    check(at != names.end(), "{}: 'loss.class_weights' names '{}', which is no class{}", where,
          name, names.empty() ? "" : fmt::format("; nearest is '{}'", nearest_name(name, names)));
    weight_of_class[at - names.begin()] = weight.get<float>();
  }
}

LossConfig read_loss_config(ConfigReader r, LossConfig c) {
  read_fields(r, c);
  r.finish();
  return c;
}

void check_objectness(const LossConfig& config, bool head_predicts_it, const std::string& where) {
  check(head_predicts_it || config.objectness_weight == 0,
        "{}: 'loss.objectness_weight' is {}, but the head predicts no objectness "
        "('model.objectness')",
        where, config.objectness_weight);
  check(!head_predicts_it || config.objectness_weight > 0,
        "{}: 'loss.objectness_weight' is 0, but the head predicts objectness", where);
}

}  // namespace sextant
