// SPDX-License-Identifier: Apache-2.0
// Inputs of DetectionLoss for tests, at random or from a fixture.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "core/config.h"
#include "models/loss/branch_loss.h"
#include "models/loss/detection_loss.h"
#include "support/support.h"

namespace sextant::test {

struct MapShape {
  int64_t height = 0;
  int64_t width = 0;
};

// Cuts predictions [N,A,C] into level maps [N,H,W,per_cell*C]; A runs level by level, within a
// level all cells for the first of the per_cell boxes, then for the next.
inline std::vector<Tensor> cut(const Tensor& x, const std::vector<MapShape>& shapes,
                               int64_t per_cell = 1) {
  const int64_t batch = x.dim(0), anchors = x.dim(1), channels = x.dim(2);
  std::vector<Tensor> maps;
  int64_t first = 0;
  for (const MapShape& s : shapes) {
    const int64_t pixels = s.height * s.width;
    const Tensor map({batch, s.height, s.width, per_cell * channels});
    for (int64_t n = 0; n < batch; ++n)
      for (int64_t b = 0; b < per_cell; ++b)
        for (int64_t i = 0; i < pixels; ++i)
          std::copy_n(x.f32() + (n * anchors + first + b * pixels + i) * channels, channels,
                      map.f32() + ((n * pixels + i) * per_cell + b) * channels);
    first += per_cell * pixels;
    maps.push_back(map);
  }
  return maps;
}

// The gradients of level maps put together again.
inline Tensor joined_grads(const std::vector<Variable>& maps, int64_t per_cell = 1) {
  int64_t anchors = 0;
  for (const Variable& v : maps) anchors += v.dim(1) * v.dim(2) * per_cell;
  const int64_t batch = maps[0].dim(0), channels = maps[0].dim(3) / per_cell;
  const Tensor out({batch, anchors, channels});
  int64_t first = 0;
  for (const Variable& v : maps) {
    const Tensor grad = v.grad().to(Device::kCpu);
    const int64_t pixels = v.dim(1) * v.dim(2);
    for (int64_t n = 0; n < batch; ++n)
      for (int64_t b = 0; b < per_cell; ++b)
        for (int64_t i = 0; i < pixels; ++i)
          std::copy_n(grad.f32() + ((n * pixels + i) * per_cell + b) * channels, channels,
                      out.f32() + (n * anchors + first + b * pixels + i) * channels);
    first += per_cell * pixels;
  }
  return out;
}

template <class F>
Tensor mapped(const Tensor& x, const F& f) {
  const Tensor out(x.shape());
  for (int64_t i = 0; i < x.numel(); ++i)
    out.f32()[i] = static_cast<float>(f(static_cast<double>(x.f32()[i])));
  return out;
}
inline Tensor logits_of(const Tensor& scores) {
  return mapped(scores, [](double s) { return std::log(s / (1 - s)); });
}

inline std::vector<Variable> leaves(const std::vector<Tensor>& maps) {
  std::vector<Variable> out;
  for (const Tensor& t : maps) out.emplace_back(t, true);
  return out;
}

struct LossSample {
  LossConfig config;
  std::vector<MapShape> shapes;
  LossInput input;
  TeacherOutput teacher;
  bool has_teacher = false;
  Tensor targets;
  LossStep step;

  LossResult run() const {
    return DetectionLoss(config)(input, targets, step, has_teacher ? &teacher : nullptr);
  }
  std::vector<Variable> inputs() const {
    std::vector<Variable> all;
    for (const auto* maps : {&input.cls_logits, &input.reg, &input.objectness, &input.reg_lrtb,
                             &input.cls_logits_ab, &input.reg_ab, &input.features})
      all.insert(all.end(), maps->begin(), maps->end());
    return all;
  }
  // Leaves of their own with the same values.
  LossSample on(Device device) const {
    LossSample s = *this;
    for (auto* maps : {&s.input.cls_logits, &s.input.reg, &s.input.objectness, &s.input.reg_lrtb,
                       &s.input.cls_logits_ab, &s.input.reg_ab, &s.input.features})
      for (Variable& v : *maps) v = Variable(v.data().to(device), true);
    for (auto* maps : {&s.teacher.cls_logits, &s.teacher.reg, &s.teacher.features})
      for (Tensor& t : *maps) t = t.to(device);
    return s;
  }
  int64_t anchors() const {
    int64_t sum = 0;
    for (const MapShape& s : shapes) sum += s.height * s.width;
    return sum;
  }
};

// Three levels of an image of 80 x 64 pixels, three images, the last without a box. reg_max 0 is
// without DFL.
inline LossSample random_loss_sample(uint64_t seed, int64_t reg_max, int64_t classes,
                                     int64_t boxes = 9) {
  LossSample s;
  s.config.num_classes = classes;
  s.config.reg_max = reg_max;
  s.config.use_dfl = reg_max > 0;
  s.shapes = {{10, 8}, {5, 4}, {5, 1}};
  s.step = {80, 64, 0};
  Rng rng(seed);
  std::vector<float> t;
  for (int64_t i = 0; i < boxes; ++i) {
    t.push_back(static_cast<float>(rng.below(2)));
    t.push_back(static_cast<float>(rng.below(classes)));
    for (int k = 0; k < 2; ++k) t.push_back(static_cast<float>(rng.uniform(0.2, 0.8)));
    for (int k = 0; k < 2; ++k) t.push_back(static_cast<float>(rng.uniform(0.15, 0.6)));
  }
  s.targets = Tensor::from({boxes, 6}, t);
  const int64_t channels = s.config.reg_channels();
  const bool dfl = reg_max > 0;
  s.input.cls_logits =
      leaves(cut(random_tensor({3, s.anchors(), classes}, seed + 1, -3, 2.2), s.shapes));
  s.input.reg = leaves(cut(
      random_tensor({3, s.anchors(), channels}, seed + 2, dfl ? -3 : 0.3, dfl ? 3 : 4), s.shapes));
  return s;
}

inline std::vector<Tensor> teacher_like(const std::vector<Variable>& maps, uint64_t seed) {
  std::vector<Tensor> out;
  for (const Variable& v : maps) {
    const Tensor noise = random_tensor(v.shape(), ++seed);
    for (int64_t i = 0; i < noise.numel(); ++i) noise.f32()[i] += v.f32()[i];
    out.push_back(noise);
  }
  return out;
}

// One map per level of so many channels.
inline std::vector<Variable> random_maps(const LossSample& s, int64_t channels, uint64_t seed,
                                         double low, double high) {
  return leaves(cut(random_tensor({3, s.anchors(), channels}, seed, low, high), s.shapes));
}

inline void add_teacher(LossSample& s, uint64_t seed) {
  s.has_teacher = true;
  s.teacher.cls_logits = teacher_like(s.input.cls_logits, seed);
  s.teacher.reg = teacher_like(s.input.reg, seed + 10);
  s.config.max_epoch = 20;
  s.config.temperature = 4;
}

inline loss_detail::PlacedBoxes placed_boxes(const loss_detail::GroundTruth& truth, int64_t batch,
                                             Device device = Device::kCpu, int64_t room = 0) {
  loss_detail::PlacedBoxes placed(device, batch, std::max(room, truth.count()));
  loss_detail::AsyncTransfers transfers;
  placed.upload(truth, transfers);
  return placed;
}

// The branch that DetectionLoss builds of a sample, without memory for gradients.
inline loss_detail::Branch branch_of(const LossSample& s, bool aided = false) {
  using loss_detail::BoxForm;
  const auto& cls = aided ? s.input.cls_logits_ab : s.input.cls_logits;
  const auto& reg = aided ? s.input.reg_ab : s.input.reg;
  loss_detail::Branch b;
  b.device = cls[0].data().device();
  b.batch = cls[0].dim(0);
  b.per_cell = cls[0].dim(3) / s.config.num_classes;
  b.form = aided              ? BoxForm::kCentre
           : s.config.use_dfl ? BoxForm::kDistribution
                              : BoxForm::kDistances;
  b.reg_channels = aided ? 4 : s.config.reg_channels();
  b.topk = aided ? s.config.topk_ab : s.config.topk;
  if (!aided)
    b.assigner = s.step.epoch < s.config.atss_warmup_epochs ? Assigner::kAtss : s.config.assigner;
  if (aided || s.has_teacher) b.undivided = 0.0;
  if (s.has_teacher)
    b.distill_decay = 1 - 0.99 *
                              (1 - std::cos(std::acos(-1.0) * static_cast<double>(s.step.epoch) /
                                            static_cast<double>(s.config.max_epoch))) /
                              2;
  for (size_t l = 0; l < s.shapes.size(); ++l) {
    loss_detail::LevelMaps m;
    m.cls = cls[l].f32();
    m.reg = reg[l].f32();
    if (!aided && !s.input.objectness.empty()) m.objectness = s.input.objectness[l].f32();
    if (!aided && !s.input.reg_lrtb.empty()) m.lrtb = s.input.reg_lrtb[l].f32();
    if (!aided && s.has_teacher) m.teacher_cls = s.teacher.cls_logits[l].f32();
    if (!aided && s.has_teacher && s.config.use_dfl) m.teacher_reg = s.teacher.reg[l].f32();
    m.height = s.shapes[l].height;
    m.width = s.shapes[l].width;
    m.first_anchor = b.anchors;
    b.anchors += m.pixels() * b.per_cell;
    b.levels.push_back(m);
  }
  return b;
}

// What of the loss is switched on.
struct LossKind {
  const char* name;
  int64_t reg_max = 0;
  kernels::IouType iou = kernels::IouType::kSIoU;
  kernels::ClassLossType cls = kernels::ClassLossType::kVarifocal;
  Assigner assigner = Assigner::kTaskAligned;
  bool objectness = false, lrtb = false, teacher = false, features = false;
  int64_t per_cell = 0;  // of the anchor-aided branch; 0 without it
  bool anchors = false;  // sizes by anchors there
  int64_t boxes = 8;
};

// ciou is left out where gradients are compared: it holds one of its factors constant.
inline const std::vector<LossKind> kLossKinds = {
    {"distances", 0},
    {"dfl", 16, kernels::IouType::kGIoU},
    {"no boxes", 16, kernels::IouType::kDIoU, kernels::ClassLossType::kVarifocal,
     Assigner::kTaskAligned, true, true, true, true, 3, true, 0},
    {"focal, atss", 0, kernels::IouType::kAlphaIoU, kernels::ClassLossType::kFocal,
     Assigner::kAtss},
    {"quality focal, simota", 4, kernels::IouType::kAlphaGIoU,
     kernels::ClassLossType::kQualityFocal, Assigner::kSimOta},
    {"poly, simota, objectness", 0, kernels::IouType::kAlphaDIoU, kernels::ClassLossType::kPoly,
     Assigner::kSimOta, true},
    {"teacher, lrtb, features", 16, kernels::IouType::kSIoU, kernels::ClassLossType::kVarifocal,
     Assigner::kTaskAligned, false, true, true, true},
    {"anchor-aided, decoded", 0, kernels::IouType::kSIoU, kernels::ClassLossType::kVarifocal,
     Assigner::kTaskAligned, false, false, false, false, 3, false},
    {"anchor-aided, raw", 16, kernels::IouType::kGIoU, kernels::ClassLossType::kVarifocal,
     Assigner::kAtss, false, false, false, false, 2, true},
};

inline LossSample sample_of(const LossKind& kind, uint64_t seed) {
  constexpr int64_t kClasses = 4;
  LossSample s = random_loss_sample(seed, kind.reg_max, kClasses, kind.boxes);
  s.config.iou_type = kind.iou;
  s.config.cls_loss = kind.cls;
  s.config.assigner = kind.assigner;
  if (kind.objectness) {
    s.config.objectness_weight = 0.7;
    s.input.objectness = random_maps(s, 1, seed + 3, -2, 2);
  }
  if (kind.lrtb) s.input.reg_lrtb = random_maps(s, 4, seed + 4, 0.3, 4);
  if (kind.teacher) add_teacher(s, seed + 5);
  if (kind.features) {
    s.config.distill_feat_weight = 2.0;
    s.input.features = random_maps(s, 6, seed + 6, -2, 2);
    s.teacher.features = teacher_like(s.input.features, seed + 7);
  }
  if (kind.per_cell > 0) {
    s.config.anchors.clear();
    for (const int64_t stride : s.config.strides)
      if (kind.anchors)
        for (std::vector<double>& level = s.config.anchors.emplace_back();
             static_cast<int64_t>(level.size()) < 2 * kind.per_cell;)
          level.push_back(static_cast<double>(stride) * (2.0 + static_cast<double>(level.size())));
    s.input.cls_logits_ab = random_maps(s, kClasses * kind.per_cell, seed + 8, -3, 2);
    s.input.reg_ab =
        random_maps(s, 4 * kind.per_cell, seed + 9, kind.anchors ? -1 : 0.3, kind.anchors ? 1 : 4);
  }
  s.step.epoch = 7;
  return s;
}

// What the loss fixtures have in common.
inline LossSample fixture_loss_sample(const SafeTensors& f) {
  LossSample s;
  s.config.num_classes = std::stoll(f.meta("num_classes"));
  s.config.strides = Json::parse(f.meta("strides")).get<std::vector<int64_t>>();
  s.config.iou_type = from_name<kernels::IouType>(f.meta("iou_type"));
  const Json weights = Json::parse(f.meta("loss_weight"));
  s.config.class_weight = weights["class"];
  s.config.iou_weight = weights["iou"];
  s.config.dfl_weight = weights["dfl"];
  const Tensor& shapes = f.at("input.feat_shapes");
  for (int64_t l = 0; l < shapes.dim(0); ++l)
    s.shapes.push_back({shapes.data<int64_t>()[2 * l], shapes.data<int64_t>()[2 * l + 1]});
  s.step = {std::stoll(f.meta("batch_height")), std::stoll(f.meta("batch_width")), 0};
  s.targets = f.at("input.targets");
  return s;
}

// d loss / d logit from d loss / d score.
inline Tensor by_logit(const Tensor& grad, const Tensor& scores) {
  const Tensor out(grad.shape());
  for (int64_t i = 0; i < grad.numel(); ++i) {
    const double s = scores.f32()[i];
    out.f32()[i] = static_cast<float>(static_cast<double>(grad.f32()[i]) * s * (1 - s));
  }
  return out;
}

}  // namespace sextant::test
