// SPDX-License-Identifier: Apache-2.0
// The fixtures of losses/ as samples, with their expected results.
#pragma once

#include "models/loss/loss_sample.h"
#include "support/fixture_folder.h"

namespace sextant::test {

// Scores with their logit maps.
inline void set_predictions(LossSample& s, const SafeTensors& f) {
  s.config.reg_max = std::stoll(f.meta("reg_max"));
  s.config.use_dfl = f.meta("use_dfl") == "True";
  s.config.atss_warmup_epochs = std::stoll(f.meta("warmup_epoch"));
  s.step.epoch = std::stoll(f.meta("epoch_num"));
  s.input.cls_logits = leaves(cut(logits_of(f.at("input.pred_scores")), s.shapes));
  s.input.reg = leaves(cut(f.at("input.pred_distri"), s.shapes));
}

inline void set_teacher(LossSample& s, const SafeTensors& f) {
  s.has_teacher = true;
  s.teacher.cls_logits = cut(logits_of(f.at("input.t_pred_scores")), s.shapes);
  s.teacher.reg = cut(f.at("input.t_pred_distri"), s.shapes);
  s.config.temperature = std::stod(f.meta("temperature"));
  s.config.max_epoch = std::stoll(f.meta("max_epoch"));
  const Json distill = Json::parse(f.meta("distill_weight"));
  s.config.distill_class_weight = distill["class"];
  s.config.distill_dfl_weight = distill["dfl"];
  if (f.meta("distill_feat") != "True") return;
  s.config.distill_feat_weight = Json::parse(f.meta("loss_weight"))["cwd"];
  for (int l = 0; const Tensor* map = f.find("input.s_featmap." + std::to_string(l)); ++l) {
    s.input.features.emplace_back(nchw_to_nhwc(*map), true);
    s.teacher.features.push_back(nchw_to_nhwc(f.at("input.t_featmap." + std::to_string(l))));
  }
}

// The value, its parts (those that a fixture has, in its order) and the gradients of the scores and
// distances.
inline void require_equal(const LossSample& s, const SafeTensors& f, const std::string& items_name,
                          const std::vector<double LossItems::*>& parts) {
  const LossResult r = s.run();
  const double loss = f.at("output.loss").item();
  REQUIRE(std::abs(r.loss.data().item() - loss) < 1e-5 * std::abs(loss));
  const Tensor& items = f.at(items_name);
  REQUIRE(items.numel() == static_cast<int64_t>(parts.size()));
  for (size_t i = 0; i < parts.size(); ++i)
    REQUIRE(std::abs(r.items().*parts[i] - static_cast<double>(items.f32()[i])) < 1e-5 * loss);
  REQUIRE(r.items().total() == Approx(loss).epsilon(1e-5));
  REQUIRE(r.items().positives == std::stoll(f.meta("n_pos")));
  REQUIRE(r.items().target_score ==
          Approx(std::stod(f.meta("target_scores_sum"))).margin(1e-6).epsilon(1e-5));
  backward(r.loss);
  REQUIRE(relative_difference(joined_grads(s.input.cls_logits),
                              by_logit(f.at("grad.pred_scores"), f.at("input.pred_scores"))) <
          1e-5);
  const Tensor got = joined_grads(s.input.reg);
  const Tensor& want = f.at("grad.pred_distri");
  REQUIRE(max_difference(got, want) <
          1e-5 * std::max(1e-2, max_difference(want, Tensor::zeros(want.shape()))));
}

inline const std::vector<double LossItems::*> kParts = {&LossItems::iou, &LossItems::dfl,
                                                        &LossItems::cls};
inline const std::vector<double LossItems::*> kPartsWithCwd = {&LossItems::iou, &LossItems::dfl,
                                                               &LossItems::cls, &LossItems::cwd};

}  // namespace sextant::test
