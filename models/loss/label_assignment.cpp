// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <span>

#include "kernels/backend.h"
#include "kernels/detection/simota.h"
#include "models/loss/branch_loss.h"

namespace sextant::loss_detail {
namespace {

// The class maps, or other maps with `channels` per box, as blocks of one anchor list.
std::array<kernels::ScoreBlock, kernels::kMaxScoreBlocks> blocks_of(const Branch& branch,
                                                                    const float* LevelMaps::*map,
                                                                    int64_t channels) {
  std::array<kernels::ScoreBlock, kernels::kMaxScoreBlocks> blocks;
  size_t b = 0;
  for (const LevelMaps& m : branch.levels)
    for (int64_t i = 0; i < branch.per_cell; ++i) {
      const int64_t cell = branch.per_cell * channels;
      blocks[b++] = {m.*map + i * channels, m.pixels(), m.pixels() * cell, cell};
    }
  return blocks;
}

// One assignment of a branch, by any of the assigners.
class Assigning {
 public:
  Assigning(const LossConfig& config, const Branch& branch, const TruthView& truth,
            Assignment& result)
      : config_(config),
        branch_(branch),
        truth_(truth),
        result_(result),
        on_(kernels::backend(branch.device)),
        points_(f64({branch.anchors, 2})) {
    generate_.grid.levels = static_cast<int>(branch.levels.size());
    generate_.grid.repeats = static_cast<int>(branch.per_cell);
    for (size_t l = 0; l < branch.levels.size(); ++l)
      generate_.grid.level[l] = {branch.levels[l].height, branch.levels[l].width,
                                 static_cast<float>(config.strides[l])};
    generate_.cell_size = static_cast<float>(config.cell_size);
    generate_.points = points_.data<double>();
  }

  void run() {
    switch (branch_.assigner) {
      case Assigner::kTaskAligned:
        return task_aligned();
      case Assigner::kAtss:
        return atss();
      case Assigner::kSimOta:
        return simota();
    }
  }

 private:
  Tensor f64(const Shape& shape) const { return Tensor(shape, DType::kF64, branch_.device); }

  kernels::AnchorsAndBoxes anchors_and_boxes() const {
    return {.points = points_.data<double>(),
            .gt_boxes = truth_.boxes,
            .gt_classes = truth_.classes,
            .gt_begin = truth_.begin,
            .boxes = truth_.count,
            .batch = branch_.batch,
            .anchors = branch_.anchors};
  }
  void fill(kernels::LabelAssign& a) const {
    static_cast<kernels::AnchorsAndBoxes&>(a) = anchors_and_boxes();
    a.assigned = result_.box.data<int32_t>();
    a.target = result_.target.data<double>();
  }

  // The predicted boxes, only at anchors that an assigner reads.
  void decode_wanted(kernels::LabelAssign& a) {
    boxes_ = f64({branch_.batch, branch_.anchors, 4});
    on_.decode_boxes({box_maps(config_, branch_), wanted_.data<uint8_t>(), boxes_.data<double>()});
    a.pred_boxes = boxes_.data<double>();
  }
  uint8_t* wanted() {
    wanted_ = Tensor({branch_.batch, branch_.anchors}, DType::kU8, branch_.device);
    return wanted_.data<uint8_t>();
  }
  void decode_inside(kernels::LabelAssign& a) {
    on_.anchors_inside({anchors_and_boxes(), wanted()});
    decode_wanted(a);
  }

  void task_aligned() {
    on_.generate_anchors(generate_);
    kernels::TaskAlignedAssign a;
    fill(a);
    a.scores = blocks_of(branch_, &LevelMaps::cls, config_.num_classes);
    a.blocks = static_cast<int>(branch_.levels.size() * branch_.per_cell);
    a.logits = true;
    a.classes = config_.num_classes;
    a.topk = branch_.topk;
    a.alpha = config_.assign_alpha;
    a.beta = config_.assign_beta;
    decode_inside(a);
    on_.task_aligned_assign(a);
  }

  void atss() {
    const Tensor squares = f64({branch_.anchors, 4});
    generate_.boxes = squares.data<double>();
    on_.generate_anchors(generate_);
    kernels::AtssAssign a;
    fill(a);
    a.levels = static_cast<int>(branch_.levels.size());
    a.topk = config_.atss_topk;
    for (int l = 0; l < a.levels; ++l)
      a.level_anchors[l] = branch_.levels[l].pixels() * branch_.per_cell;
    a.anchor_boxes = squares.data<double>();
    decode_inside(a);
    on_.atss_assign(a);
  }

  void simota() {
    const Tensor strides = f64({branch_.anchors});
    generate_.strides = strides.data<double>();
    on_.generate_anchors(generate_);
    kernels::SimOtaAssign a;
    fill(a);
    a.scores = blocks_of(branch_, &LevelMaps::cls, config_.num_classes);
    a.has_objectness = branch_.levels[0].objectness != nullptr;
    if (a.has_objectness) a.objectness = blocks_of(branch_, &LevelMaps::objectness, 1);
    a.classes = config_.num_classes;
    a.radius = config_.simota_radius;
    a.dynamic_k = config_.simota_dynamic_k;
    a.iou_weight = config_.simota_iou_weight;
    a.strides = strides.data<double>();
    on_.simota_candidates({a, wanted()});
    decode_wanted(a);
    on_.simota_assign(a);
  }

  const LossConfig& config_;
  const Branch& branch_;
  const TruthView& truth_;
  Assignment& result_;
  const kernels::Backend& on_;
  Tensor points_;  // F64 [A,2]
  Tensor wanted_;  // U8 [N,A]
  Tensor boxes_;   // F64 [N,A,4]
  kernels::AnchorsOf<double> generate_;
};

}  // namespace

GroundTruth read_targets(const Tensor& targets, int64_t batch, int64_t num_classes, int64_t image_h,
                         int64_t image_w) {
  GroundTruth truth;
  truth.begin.assign(batch + 1, 0);
  if (!targets.defined() || targets.numel() == 0) return truth;
  check(targets.dtype() == DType::kF32 && targets.shape().rank() == 2 && targets.dim(1) == 6 &&
            targets.device() == Device::kCpu,
        "detection loss: targets {} {} on {}, expected F32 [M,6] on cpu", name_of(targets.dtype()),
        targets.shape().str(), name_of(targets.device()));
  const float* t = targets.f32();
  const int64_t rows = targets.dim(0);
  std::vector<std::vector<int64_t>> of_image(batch);
  for (int64_t r = 0; r < rows; ++r) {
    const float* row = t + 6 * r;
    for (int i = 0; i < 6; ++i)
      check(std::isfinite(row[i]), "detection loss: targets row {} holds {} at column {}", r,
            row[i], i);
    check(row[0] >= 0 && row[0] < static_cast<float>(batch),
          "detection loss: targets row {} has image index {}, the batch has {} images", r, row[0],
          batch);
    check(row[1] >= 0 && row[1] < static_cast<float>(num_classes),
          "detection loss: targets row {} has class {}, the model has {} classes", r, row[1],
          num_classes);
    of_image[static_cast<int64_t>(row[0])].push_back(r);
  }
  for (int64_t n = 0; n < batch; ++n) {
    for (const int64_t r : of_image[n]) {
      const float* row = t + 6 * r;
      const double cx = static_cast<double>(row[2]) * static_cast<double>(image_w);
      const double cy = static_cast<double>(row[3]) * static_cast<double>(image_h);
      const double w = static_cast<double>(row[4]) * static_cast<double>(image_w);
      const double h = static_cast<double>(row[5]) * static_cast<double>(image_h);
      const double box[4] = {cx - w * 0.5, cy - h * 0.5, cx + w * 0.5, cy + h * 0.5};
      // The official code treats rows without a positive sum as padding.
      if (!(box[0] + box[1] + box[2] + box[3] > 0.0)) continue;
      truth.boxes.insert(truth.boxes.end(), box, box + 4);
      truth.classes.push_back(static_cast<int32_t>(row[1]));
    }
    truth.begin[n + 1] = static_cast<int64_t>(truth.classes.size());
  }
  return truth;
}

// The widest type first, so that all are aligned.
PlacedBoxes::PlacedBoxes(Device where, int64_t images, int64_t room)
    : device(where),
      batch(images),
      memory(Shape{room * 4 * static_cast<int64_t>(sizeof(double)) +
                   (images + 1) * static_cast<int64_t>(sizeof(int64_t)) +
                   room * static_cast<int64_t>(sizeof(int32_t))},
             DType::kU8, where) {
  const auto* p = static_cast<const std::byte*>(memory.raw());
  view.boxes = reinterpret_cast<const double*>(p);
  view.begin = reinterpret_cast<const int64_t*>(view.boxes + 4 * room);
  view.classes = reinterpret_cast<const int32_t*>(view.begin + images + 1);
  view.count = room;
}

void PlacedBoxes::upload(const GroundTruth& truth, AsyncTransfers& transfers) {
  if (device != Device::kCpu) transfer = transfers.next();
  std::byte* to =
      transfer ? transfer->upload_buffer(memory.bytes()) : static_cast<std::byte*>(memory.raw());
  const auto* from = static_cast<const std::byte*>(memory.raw());
  const auto copy = [&](const auto& values, const void* place) {
    std::ranges::copy(std::as_bytes(std::span(values)),
                      to + (static_cast<const std::byte*>(place) - from));
  };
  copy(truth.boxes, view.boxes);
  copy(truth.begin, view.begin);
  copy(truth.classes, view.classes);
  if (transfer) transfer->upload(memory);
}

void PlacedBoxes::weigh(const std::vector<float>& class_weights) {
  if (class_weights.empty()) return;
  Tensor host(Shape{std::ssize(class_weights)});
  std::ranges::copy(class_weights, host.f32());
  weights = host.to(device);
  view.class_weights = weights.f32();
}

Assignment assign_boxes(const LossConfig& config, const Branch& branch, const TruthView& truth) {
  const Shape shape{branch.batch, branch.anchors};
  Assignment result{Tensor(shape, DType::kI32, branch.device),
                    Tensor(shape, DType::kF64, branch.device)};
  Assigning(config, branch, truth, result).run();
  return result;
}

}  // namespace sextant::loss_detail
