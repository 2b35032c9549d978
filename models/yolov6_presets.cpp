// SPDX-License-Identifier: Apache-2.0
// The official models by name.
#include <algorithm>
#include <functional>

#include "models/yolov6_config.h"

namespace sextant {
namespace {

using Change = std::function<void(Yolov6Config&)>;

struct Preset {
  std::string name;
  double depth, width;
  std::vector<Change> changes;
};

void v3(Yolov6Config& c) {
  c.neck = NeckKind::kRepBiFPAN;
  c.cspsppf = true;
}

void csp(Yolov6Config& c) {
  c.backbone = BackboneKind::kCSPBep;
  c.neck = NeckKind::kCSPRepBiFPAN;
  c.cspsppf = false;
}

void p6(Yolov6Config& c) {
  c.backbone = c.csp_backbone() ? BackboneKind::kCSPBepP6 : BackboneKind::kEfficientRep6;
  c.neck = c.csp_neck() ? NeckKind::kCSPRepBiFPANP6 : NeckKind::kRepBiFPAN6;
  c.backbone_channels = {64, 128, 256, 512, 768, 1024};
  c.backbone_repeats = {1, 6, 12, 18, 6, 6};
  c.neck_channels = {512, 256, 128, 256, 512, 1024};
  c.neck_repeats = {12, 12, 12, 12, 12, 12};
  c.anchors.clear();
}

void mbla(Yolov6Config& c) {
  c.stage_block = StageBlock::kMBLA;
  c.backbone_repeats = {1, 4, 8, 8, 4};
  c.neck_repeats = {8, 8, 8, 8};
}

void two_thirds(Yolov6Config& c) { c.csp_e = 2.0 / 3.0; }
void dfl(Yolov6Config& c) {
  c.use_dfl = true;
  c.reg_max = 16;
}
void giou(Yolov6Config& c) { c.iou_type = kernels::IouType::kGIoU; }
void silu(Yolov6Config& c) {
  c.training_mode = TrainingMode::kConvSiLU;
  c.activation = "silu";
}
void qa(Yolov6Config& c) { c.training_mode = TrainingMode::kQARepVGGV2; }

void lite(Yolov6Config& c) {
  c.backbone = BackboneKind::kLite;
  c.backbone_channels = {24, 32, 64, 128, 256};  // the stem's are not scaled
  c.backbone_repeats = {1, 3, 7, 3};
  c.neck = NeckKind::kLite;
  c.neck_channels = {96};  // not scaled either
  c.neck_repeats = {};
  c.activation = "hardswish";
}

const std::vector<Preset>& presets() {
  static const std::vector<Preset> all = {
      {"yolov6n_opt", 0.33, 0.25, {}},
      {"yolov6t_opt", 0.33, 0.375, {}},
      {"yolov6s_opt", 0.33, 0.5, {giou}},
      {"yolov6n", 0.33, 0.25, {v3}},
      {"yolov6s", 0.33, 0.5, {v3, giou}},
      {"yolov6m", 0.6, 0.75, {csp, two_thirds, dfl, giou}},
      {"yolov6l", 1.0, 1.0, {csp, dfl, giou, silu}},
      {"yolov6n6", 0.33, 0.25, {v3, p6}},
      {"yolov6s6", 0.33, 0.5, {v3, p6, giou}},
      {"yolov6m6", 0.6, 0.75, {csp, p6, two_thirds, dfl, giou}},
      {"yolov6l6", 1.0, 1.0, {csp, p6, dfl, giou, silu}},
      {"yolov6n_qa", 0.33, 0.25, {v3, qa}},
      {"yolov6s_qa", 0.33, 0.5, {v3, giou, qa}},
      {"yolov6m_qa", 0.6, 0.75, {csp, two_thirds, dfl, giou, qa}},
      {"yolov6s_mbla", 0.5, 0.5, {csp, mbla, dfl, giou, silu}},
      {"yolov6m_mbla", 0.5, 0.75, {csp, mbla, dfl, giou, silu}},
      {"yolov6l_mbla", 0.5, 1.0, {csp, mbla, dfl, giou, silu}},
      {"yolov6x_mbla", 1.0, 1.0, {csp, mbla, dfl, giou, silu}},
      {"yolov6lite_s", 1.0, 0.7, {lite}},
      {"yolov6lite_m", 1.0, 1.1, {lite}},
      {"yolov6lite_l", 1.0, 1.5, {lite}},
  };
  return all;
}

}  // namespace

const std::vector<std::string>& yolov6_preset_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> list;
    for (const Preset& p : presets()) list.push_back(p.name);
    return list;
  }();
  return names;
}

Yolov6Config yolov6_preset(const std::string& type) {
  const auto& all = presets();
  const auto found =
      std::find_if(all.begin(), all.end(), [&](const Preset& p) { return p.name == type; });
  if (found == all.end()) fail("{}", unknown_name("model type", type, yolov6_preset_names()));
  Yolov6Config c;
  c.type = type;
  c.depth_multiple = found->depth;
  c.width_multiple = found->width;
  for (const Change& change : found->changes) change(c);
  return c;
}

}  // namespace sextant
