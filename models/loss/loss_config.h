// SPDX-License-Identifier: Apache-2.0
// The config of the training loss, as described in JSON under "loss".
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/config_fields.h"
#include "kernels/detection/cls_loss.h"
#include "kernels/detection/iou_loss.h"

namespace sextant {

enum class Assigner : int { kTaskAligned, kAtss, kSimOta };
constexpr auto enum_names(Assigner) {
  return make_enum_names<Assigner>(
      "assigner",
      {{Assigner::kTaskAligned, "tal"}, {Assigner::kAtss, "atss"}, {Assigner::kSimOta, "simota"}});
}

struct LossConfig {
  // From the model.
  int64_t num_classes = 80;
  std::vector<int64_t> strides = {8, 16, 32};  // pixels per cell of each level
  int64_t reg_max = 16;
  bool use_dfl = true;  // false: four plain distances; reg_max is ignored
  // Anchor-aided branch: w, h of each anchor in pixels, per level. Its maps then hold
  // (dx, dy, a, b) with the size (2 sigmoid(a))^2 w, (2 sigmoid(b))^2 h; without anchors here they
  // hold (dx, dy, w, h) in cells.
  std::vector<std::vector<double>> anchors;
  // From the training run: the epoch at which the distillation weight has decayed to 0.01.
  int64_t max_epoch = 0;
  // From `class_weights` and the data, by name_classes(): [num_classes], or empty for 1 each.
  std::vector<float> weight_of_class;

  // The rest is in the JSON, under the names of fields().
  kernels::ClassLossType cls_loss = kernels::ClassLossType::kVarifocal;
  kernels::IouType iou_type = kernels::IouType::kGIoU;
  double iou_alpha = 3.0;  // the power of the alpha_... types
  Assigner assigner = Assigner::kTaskAligned;
  int64_t atss_warmup_epochs = 0;  // ATSS in the first epochs, whatever `assigner` says
  double class_weight = 1.0;
  // By the names of classes: what the terms of a class in the classification loss are multiplied by; 1
  // where it is not named. Distillation does not read it.
  Json class_weights = Json::object();
  double iou_weight = 2.5;
  double dfl_weight = 0.5;
  double objectness_weight = 0.0;  // above 0: the head gives objectness maps
  int64_t topk = 13;               // task-aligned: anchors per box
  int64_t topk_ab = 26;            // the same in the anchor-aided branch
  double assign_alpha = 1.0;
  double assign_beta = 6.0;
  int64_t atss_topk = 9;
  double simota_radius = 2.5;
  int64_t simota_dynamic_k = 10;
  double simota_iou_weight = 3.0;
  double varifocal_alpha = 0.75;
  double varifocal_gamma = 2.0;
  double focal_alpha = 0.25;
  double focal_gamma = 2.0;
  double quality_focal_beta = 2.0;
  double poly_epsilon = 1.0;
  // Distillation, if a teacher is given. The class and DFL parts are also multiplied by
  // class_weight and dfl_weight. A feature weight above 0 (official value: 10) needs the feature
  // maps of both.
  double distill_class_weight = 1.0;
  double distill_dfl_weight = 1.0;
  double distill_feat_weight = 0.0;
  double temperature = 20.0;

  double iou_eps = 1e-10;
  double cell_size = 5.0;  // ATSS: side of an anchor's square, in cells

  // Channels of the distance maps: 4, or 4 * (reg_max + 1) with DFL.
  int64_t reg_channels() const { return use_dfl ? 4 * (reg_max + 1) : 4; }
  void fields(ConfigFields& f);
  // Fills weight_of_class. Throws Error, starting with `where`, for a class that `names` lacks.
  void name_classes(const std::vector<std::string>& names, const std::string& where);
  // The JSON keys with their values; read_loss_config() restores the same config from it.
  Json json() const { return fields_to_json(*this); }
};

// Reads the object under "loss"; what is absent keeps its default. Throws Error naming the key for
// unknown keys and values out of range.
LossConfig read_loss_config(ConfigReader reader, LossConfig defaults);

// Throws Error, starting with `where`, unless the loss weights objectness exactly when the head
// predicts it: an untrained prediction would still multiply the scores.
void check_objectness(const LossConfig& config, bool head_predicts_it, const std::string& where);

}  // namespace sextant
