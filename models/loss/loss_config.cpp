#include "models/loss/loss_config.h"

#include <array>

namespace sextant {
namespace {

constexpr std::array<const char*, 3> kAssigners = {"tal", "atss", "simota"};

// Calls number(key, field, low, high) for every key that is a number, in the order of the fields.
template <class Config, class F>
void each_number(Config& c, const F& number) {
  constexpr double kMost = 1e6;
  number("iou_alpha", c.iou_alpha, 1.0, 10.0);
  number("atss_warmup_epochs", c.atss_warmup_epochs, 0, kMost);
  number("class_weight", c.class_weight, 0, kMost);
  number("iou_weight", c.iou_weight, 0, kMost);
  number("dfl_weight", c.dfl_weight, 0, kMost);
  number("objectness_weight", c.objectness_weight, 0, kMost);
  number("topk", c.topk, 1, 1000);
  number("topk_ab", c.topk_ab, 1, 1000);
  number("assign_alpha", c.assign_alpha, 0, 100);
  number("assign_beta", c.assign_beta, 0, 100);
  number("atss_topk", c.atss_topk, 1, 1000);
  number("simota_radius", c.simota_radius, 0, 1000);
  number("simota_dynamic_k", c.simota_dynamic_k, 1, 1000);
  number("simota_iou_weight", c.simota_iou_weight, 0, kMost);
  number("varifocal_alpha", c.varifocal_alpha, 0, kMost);
  number("varifocal_gamma", c.varifocal_gamma, 1, 100);
  number("focal_alpha", c.focal_alpha, 0, 1);
  number("focal_gamma", c.focal_gamma, 1, 100);
  number("quality_focal_beta", c.quality_focal_beta, 1, 100);
  number("poly_epsilon", c.poly_epsilon, -1, kMost);
  number("distill_class_weight", c.distill_class_weight, 0, kMost);
  number("distill_dfl_weight", c.distill_dfl_weight, 0, kMost);
  number("distill_feat_weight", c.distill_feat_weight, 0, kMost);
  number("temperature", c.temperature, 0.01, 1000);
}

}  // namespace

const char* name_of(Assigner a) { return kAssigners[static_cast<size_t>(a)]; }

Assigner assigner_from_name(const std::string& name) {
  for (size_t i = 0; i < kAssigners.size(); ++i)
    if (name == kAssigners[i]) return static_cast<Assigner>(i);
  fail("assigner '{}' is not one of tal, atss, simota", name);
}

Json LossConfig::json() const {
  Json j = {{"cls", kernels::name_of(cls_loss)},
            {"iou", kernels::name_of(iou_type)},
            {"assigner", name_of(assigner)}};
  each_number(*this, [&](const char* key, const auto& value, double, double) { j[key] = value; });
  return j;
}

LossConfig read_loss_config(ConfigReader r, LossConfig c) {
  std::string cls = kernels::name_of(c.cls_loss);
  std::string iou = kernels::name_of(c.iou_type);
  std::string assigner = name_of(c.assigner);
  r.choice("cls", cls, {"varifocal", "focal", "quality_focal", "poly"});
  r.choice("iou", iou,
           {"iou", "giou", "diou", "ciou", "siou", "alpha_iou", "alpha_giou", "alpha_diou",
            "alpha_ciou"});
  r.choice("assigner", assigner, {"tal", "atss", "simota"});
  c.cls_loss = kernels::class_loss_type_from_name(cls);
  c.iou_type = kernels::iou_type_from_name(iou);
  c.assigner = assigner_from_name(assigner);
  each_number(c, [&](const char* key, auto& value, double low, double high) {
    r.number(key, value, low, high);
  });
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
