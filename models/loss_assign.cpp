#include <algorithm>
#include <cmath>
#include <memory>

#include "core/parallel.h"
#include "kernels/assign.h"
#include "kernels/atss.h"
#include "kernels/simota.h"
#include "models/loss_evaluation.h"
#include "models/loss_geometry.h"

namespace sextant::loss_detail {
namespace {

// The class maps, or those of another map of `channels` a box, as blocks of one anchor list.
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
class Assigning : Geometry {
 public:
  Assigning(const LossConfig& config, const Branch& branch, const Truth& truth, Assignment& result)
      : Geometry(config, branch), truth_(truth), result_(result) {}

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
  void fill(kernels::LabelAssign& a) const {
    a.points = points_.data();
    a.gt_boxes = truth_.boxes.data();
    a.gt_classes = truth_.classes.data();
    a.gt_begin = truth_.begin.data();
    a.batch = branch_.batch;
    a.anchors = branch_.anchors;
    a.assigned = result_.box.data();
    a.target = result_.target.data();
  }

  // The predicted boxes in pixels, of those anchors only that an assigner reads.
  void decode_boxes(const std::vector<uint8_t>& read) {
    boxes_ = std::make_unique_for_overwrite<double[]>(4 * branch_.batch * branch_.anchors);
    parallel_for(branch_.batch, 1, [&](int64_t begin, int64_t end) {
      std::vector<double> prob(branch_.reg_channels);
      for (int64_t n = begin; n < end; ++n)
        each_anchor(n, [&](const Position& p) {
          const int64_t i = n * branch_.anchors + p.anchor;
          if (!read[i]) return;
          Decoded decoded;
          decode(p, prob.data(), decoded);
          for (int k = 0; k < 4; ++k) boxes_[4 * i + k] = decoded.box[k] * stride(p);
        });
    });
  }
  void decode_inside(kernels::LabelAssign& a) {
    std::vector<uint8_t> read(branch_.batch * branch_.anchors);
    kernels::cpu::anchors_inside(a, read.data());
    decode_boxes(read);
    a.pred_boxes = boxes_.get();
  }

  void task_aligned() {
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
    kernels::cpu::task_aligned_assign(a);
  }

  void atss() {
    kernels::AtssAssign a;
    fill(a);
    a.levels = static_cast<int>(branch_.levels.size());
    a.topk = config_.atss_topk;
    for (int l = 0; l < a.levels; ++l)
      a.level_anchors[l] = branch_.levels[l].pixels() * branch_.per_cell;
    std::vector<double> squares(4 * branch_.anchors);
    each_anchor(0, [&](const Position& p) {
      const double half = 0.5 * config_.cell_size * stride(p);
      for (int k = 0; k < 4; ++k)
        squares[4 * p.anchor + k] = points_[2 * p.anchor + k % 2] + (k < 2 ? -half : half);
    });
    a.anchor_boxes = squares.data();
    decode_inside(a);
    kernels::cpu::atss_assign(a);
  }

  void simota() {
    kernels::SimOtaAssign a;
    fill(a);
    a.scores = blocks_of(branch_, &LevelMaps::cls, config_.num_classes);
    a.has_objectness = branch_.levels[0].objectness != nullptr;
    if (a.has_objectness) a.objectness = blocks_of(branch_, &LevelMaps::objectness, 1);
    a.classes = config_.num_classes;
    a.radius = config_.simota_radius;
    a.dynamic_k = config_.simota_dynamic_k;
    a.iou_weight = config_.simota_iou_weight;
    std::vector<double> strides(branch_.anchors);
    each_anchor(0, [&](const Position& p) { strides[p.anchor] = stride(p); });
    a.strides = strides.data();
    std::vector<uint8_t> read(branch_.batch * branch_.anchors);
    kernels::cpu::simota_candidates(a, read.data());
    decode_boxes(read);
    a.pred_boxes = boxes_.get();
    kernels::cpu::simota_assign(a);
  }

  const Truth& truth_;
  Assignment& result_;
  std::unique_ptr<double[]> boxes_;  // [N,A,4]
};

}  // namespace

Truth read_targets(const Tensor& targets, int64_t batch, int64_t num_classes, int64_t image_h,
                   int64_t image_w) {
  Truth truth;
  truth.begin.assign(batch + 1, 0);
  if (!targets.defined() || targets.numel() == 0) return truth;
  check(targets.dtype() == DType::kF32 && targets.shape().rank() == 2 && targets.dim(1) == 6,
        "detection loss: targets {} {}, expected F32 [M,6]", name_of(targets.dtype()),
        targets.shape().str());
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
      // The official code takes rows without a positive sum for padding.
      if (!(box[0] + box[1] + box[2] + box[3] > 0.0)) continue;
      truth.boxes.insert(truth.boxes.end(), box, box + 4);
      truth.classes.push_back(static_cast<int32_t>(row[1]));
    }
    truth.begin[n + 1] = static_cast<int64_t>(truth.classes.size());
  }
  return truth;
}

Assignment assign_boxes(const LossConfig& config, const Branch& branch, const Truth& truth) {
  Assignment result;
  const int64_t total = branch.batch * branch.anchors;
  result.box.assign(total, -1);
  result.target.assign(total, 0.0);
  if (!truth.classes.empty()) Assigning(config, branch, truth, result).run();
  return result;
}

}  // namespace sextant::loss_detail
