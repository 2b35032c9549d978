// SPDX-License-Identifier: Apache-2.0
// The structure of a YOLOv6, as described in JSON.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/config_fields.h"
#include "layers/stages.h"
#include "models/loss/detection_loss.h"

namespace sextant {

// All names are those of the official configs. The "6", "P6" and "Lite" kinds have four levels, not
// three.
enum class BackboneKind { kEfficientRep, kEfficientRep6, kCSPBep, kCSPBepP6, kLite };
constexpr auto enum_names(BackboneKind) {
  return make_enum_names<BackboneKind>("backbone", {{BackboneKind::kEfficientRep, "EfficientRep"},
                                                    {BackboneKind::kEfficientRep6, "EfficientRep6"},
                                                    {BackboneKind::kCSPBep, "CSPBepBackbone"},
                                                    {BackboneKind::kCSPBepP6, "CSPBepBackbone_P6"},
                                                    {BackboneKind::kLite, "Lite_EffiBackbone"}});
}

enum class NeckKind { kRepPAN, kRepBiFPAN, kRepBiFPAN6, kCSPRepBiFPAN, kCSPRepBiFPANP6, kLite };
constexpr auto enum_names(NeckKind) {
  return make_enum_names<NeckKind>("neck", {{NeckKind::kRepPAN, "RepPANNeck"},
                                            {NeckKind::kRepBiFPAN, "RepBiFPANNeck"},
                                            {NeckKind::kRepBiFPAN6, "RepBiFPANNeck6"},
                                            {NeckKind::kCSPRepBiFPAN, "CSPRepBiFPANNeck"},
                                            {NeckKind::kCSPRepBiFPANP6, "CSPRepBiFPANNeck_P6"},
                                            {NeckKind::kLite, "Lite_EffiNeck"}});
}

// The stages of CSP backbones and necks.
enum class StageBlock { kBepC3, kMBLA };
constexpr auto enum_names(StageBlock) {
  return make_enum_names<StageBlock>(
      "stage block", {{StageBlock::kBepC3, "BepC3"}, {StageBlock::kMBLA, "MBLABlock"}});
}

// The blocks in training.
enum class TrainingMode {
  kRepVGG,
  kHyperSearch,
  kRepOpt,
  kConvReLU,
  kConvSiLU,
  kQARepVGG,
  kQARepVGGV2
};
constexpr auto enum_names(TrainingMode) {
  return make_enum_names<TrainingMode>("training mode",
                                       {{TrainingMode::kRepVGG, "repvgg"},
                                        {TrainingMode::kHyperSearch, "hyper_search"},
                                        {TrainingMode::kRepOpt, "repopt"},
                                        {TrainingMode::kConvReLU, "conv_relu"},
                                        {TrainingMode::kConvSiLU, "conv_silu"},
                                        {TrainingMode::kQARepVGG, "qarepvgg"},
                                        {TrainingMode::kQARepVGGV2, "qarepvggv2"}});
}

// Names and numbers are those of the official configs. Defaults: YOLOv6-N in the legacy RepPAN form
// (configs/repopt/yolov6n_opt.py with training mode repvgg).
struct Yolov6Config {
  std::string type = "yolov6n_opt";  // a preset for everything that is not given
  int64_t num_classes = 80;
  double depth_multiple = 0.33;
  double width_multiple = 0.25;
  BackboneKind backbone = BackboneKind::kEfficientRep;
  std::vector<int64_t> backbone_channels = {64, 128, 256, 512, 1024};
  std::vector<int64_t> backbone_repeats = {1, 6, 12, 18, 6};
  NeckKind neck = NeckKind::kRepPAN;
  std::vector<int64_t> neck_channels = {256, 128, 128, 256, 256, 512};
  std::vector<int64_t> neck_repeats = {12, 12, 12, 12};
  bool cspsppf = false;  // the CSP pyramid pooling at the backbone's end
  StageBlock stage_block = StageBlock::kBepC3;
  double csp_e = 0.5;  // share of the channels inside a CSP stage
  TrainingMode training_mode = TrainingMode::kRepVGG;
  std::string activation =
      "relu";               // of backbone and neck; the head's is SiLU, but the same in Lite
  bool fuse_ab = false;     // anchor-aided training: an extra anchor-based branch
  bool distill_ns = false;  // self-distillation of small models: an extra DFL branch
  bool objectness = false;  // an objectness map per level, which multiplies the scores
  // Pixels w, h of each anchor, per level; used with fuse_ab.
  std::vector<std::vector<double>> anchors = {
      {10, 13, 19, 19, 33, 23}, {30, 61, 59, 59, 59, 119}, {116, 90, 185, 185, 373, 326}};
  bool use_dfl = false;
  int64_t reg_max = 0;
  kernels::IouType iou_type = kernels::IouType::kSIoU;

  // Pixels per cell of each level: 8, 16, 32 and, for the P6 and Lite models, 64.
  std::vector<int64_t> strides() const;
  // Image sides are multiples of it: of the largest stride, but in Lite, whose last level rounds its
  // size up, of 32.
  int64_t size_multiple() const { return lite() ? 32 : strides().back(); }
  bool p6() const;    // four levels instead of three
  bool lite() const;  // YOLOv6Lite: depthwise convolutions throughout
  bool csp_backbone() const;
  bool csp_neck() const;
  // The neck reads the stride-4 map as well.
  bool fuse_p2() const { return neck != NeckKind::kRepPAN && !lite(); }
  // ceil(c * width_multiple / 8) * 8
  int64_t channels(int64_t c) const;
  // Of Lite's stages: c * width_multiple rounded to a multiple of 16, and inside them, half of that
  // rounded to a multiple of 8; the next multiple where more than a tenth would be lost.
  int64_t lite_channels(int64_t c) const;
  int64_t lite_middle(int64_t c) const;
  // max(round(n * depth_multiple), 1) for n > 1, rounding halves to even; n otherwise
  int64_t repeats(int64_t n) const;
  BlockStyle block() const;
  StageStyle backbone_stage() const;
  StageStyle neck_stage() const;
  // For the neck's convolutions between its stages: the official conv_silu models keep ReLU there.
  Activation neck_activation() const;

  // The loss config that fits this model, with the model's own defaults.
  LossConfig loss() const;
  void fields(ConfigFields& f);
  // read_yolov6_config() restores the same config from it.
  Json json() const { return fields_to_json(*this); }
};

// The names that `type` may have, and the config of one of them. Throws Error for another name.
const std::vector<std::string>& yolov6_preset_names();
Yolov6Config yolov6_preset(const std::string& type);

// Reads the object under "model"; num_classes comes from the data. Throws Error naming the key and
// the reason for a value that is invalid or inconsistent with the others.
Yolov6Config read_yolov6_config(ConfigReader reader, int64_t num_classes);

}  // namespace sextant
