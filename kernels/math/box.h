// SPDX-License-Identifier: Apache-2.0
// The arithmetic of kernels/detection/box_maps.h and kernels/detection/box_loss.h, one definition
// for the CPU and CUDA. It goes side by side: what belongs to number `side` of the four of a box
// depends on the others only through the box, so that four lanes can share an anchor.
#pragma once

#include <cmath>

#include "kernels/detection/box_loss.h"
#include "kernels/detection/dfl.h"
#include "kernels/math/iou.h"

namespace sextant::kernels::boxes {

// Where an anchor's box is written.
struct Place {
  int level;
  int64_t box;  // of the cell
  int64_t row;  // of the level's maps
  double x, y;  // the cell's middle, in cells
};

SEXTANT_HD Place place_of(const BoxMaps& m, int64_t image, int64_t anchor) {
  Place p{};
  int64_t pixels = m.level[0].height * m.level[0].width;
  while (anchor >= pixels * m.per_cell) {
    anchor -= pixels * m.per_cell;
    ++p.level;
    pixels = m.level[p.level].height * m.level[p.level].width;
  }
  // An image has fewer than 2^31 anchors.
  const auto at = static_cast<uint32_t>(anchor);
  const uint32_t box = at / static_cast<uint32_t>(pixels);
  const uint32_t pixel = at - box * static_cast<uint32_t>(pixels);
  const auto width = static_cast<uint32_t>(m.level[p.level].width);
  p.box = box;
  p.row = (image * pixels + pixel) * m.per_cell + box;
  p.x = static_cast<double>(pixel % width) + 0.5;
  p.y = static_cast<double>(pixel / width) + 0.5;
  return p;
}

// Number `side` of the form's four, as `mean`; log_sum with distributions only.
SEXTANT_HD SideSums number_of(const BoxMaps& m, const Place& p, int side) {
  const BoxLevel& level = m.level[p.level];
  const float* reg = level.reg + p.row * 4 * m.bins;
  if (m.form == BoxForm::kDistribution) return side_sums(reg + side * m.bins, m.bins);
  const auto value = static_cast<double>(reg[side]);
  if (m.form == BoxForm::kDistances || !m.sized || side < 2) return {0.0, value};
  const double twice = 2.0 / (1.0 + std::exp(-value));
  return {0.0, twice * twice * level.sizes[p.box][side - 2] / level.stride};
}

// The box of four numbers, in cells.
SEXTANT_HD void box_of(BoxForm form, const Place& p, const double* number, double* box) {
  if (form != BoxForm::kCentre) {
    dist2bbox(p.x, p.y, number, box);
    return;
  }
  const double centre[2] = {p.x + number[0], p.y + number[1]};
  for (int i = 0; i < 2; ++i) {
    box[i] = centre[i] - 0.5 * number[2 + i];
    box[2 + i] = centre[i] + 0.5 * number[2 + i];
  }
}

// d by number `side`, given d by the box.
SEXTANT_HD double number_gradient(BoxForm form, const double* by_box, int side) {
  if (form != BoxForm::kCentre) return side < 2 ? -by_box[side] : by_box[side];
  return side < 2 ? by_box[side] + by_box[side + 2] : 0.5 * (by_box[side] - by_box[side - 2]);
}

// An anchor's IoU loss. All in cells.
struct BoxTerm {
  double loss;
  double by_box[4];
  double distance[4];  // of the assigned box, clipped
};

SEXTANT_HD BoxTerm box_term(const BoxLoss& p, const Place& place, const double* number,
                            int64_t gt) {
  BoxTerm term{};
  double box[4], goal[4];
  box_of(p.maps.form, place, number, box);
  for (int i = 0; i < 4; ++i) goal[i] = p.gt_boxes[4 * gt + i] / p.maps.level[place.level].stride;
  IouLoss<double> iou;
  iou.pred = box;
  iou.target = goal;
  iou.loss = &term.loss;
  iou.grad = term.by_box;
  iou.rows = 1;
  iou.type = p.type;
  iou.eps = p.eps;
  iou.alpha = p.alpha;
  iou_loss_row(iou, 0);
  bbox2dist(place.x, place.y, goal, static_cast<double>(p.maps.bins - 1), term.distance);
  return term;
}

// Two distributions over the bins of a side, tempered.
struct TemperedPair {
  double inverse;  // 1 / T
  double student_top, student_sum, teacher_top, teacher_sum;
  double divergence;

  SEXTANT_HD double difference(float student, float teacher) const {
    return std::exp((static_cast<double>(student) - student_top) * inverse) / student_sum -
           std::exp((static_cast<double>(teacher) - teacher_top) * inverse) / teacher_sum;
  }
};

SEXTANT_HD TemperedPair tempered_pair(const float* student, const float* teacher, int64_t bins,
                                      double inverse) {
  TemperedPair t{};
  t.inverse = inverse;
  t.student_top = static_cast<double>(student[0]);
  t.teacher_top = static_cast<double>(teacher[0]);
  for (int64_t k = 1; k < bins; ++k) {
    const auto s = static_cast<double>(student[k]), q = static_cast<double>(teacher[k]);
    t.student_top = s > t.student_top ? s : t.student_top;
    t.teacher_top = q > t.teacher_top ? q : t.teacher_top;
  }
  double student_sum = 0.0, teacher_sum = 0.0, cross = 0.0;
  SEXTANT_OMP(omp simd reduction(+ : student_sum, teacher_sum, cross))
  for (int64_t k = 0; k < bins; ++k) {
    const auto s = static_cast<double>(student[k]), q = static_cast<double>(teacher[k]);
    const double e = std::exp((q - t.teacher_top) * inverse);
    student_sum += std::exp((s - t.student_top) * inverse);
    teacher_sum += e;
    cross += e * ((q - s) * inverse);
  }
  const double kl = cross / teacher_sum + (t.student_top - t.teacher_top) * inverse +
                    std::log(student_sum / teacher_sum);
  t.student_sum = student_sum;
  t.teacher_sum = teacher_sum;
  t.divergence = kl > 0.0 ? kl : 0.0;
  return t;
}

// What side `side` of an anchor adds to the last two sums; writes its gradient.
struct SideTerm {
  double focal;
  double distilled;
};

SEXTANT_HD SideTerm side_term(const BoxLoss& p, const Place& place, int side, const SideSums& own,
                              const BoxTerm& box, double weight) {
  const BoxMaps& m = p.maps;
  const BoxLevel& level = m.level[place.level];
  const int64_t at = place.row * 4 * m.bins;
  const double each = weight / p.scores->divisor;
  const double by_number = p.scale[0] * each * number_gradient(m.form, box.by_box, side);
  float* grad = p.grad[place.level];
  if (m.form != BoxForm::kDistribution) {
    if (grad == nullptr) return {};
    double g = by_number;
    // d size / d a = 2 size (1 - sigmoid(a))
    if (m.form == BoxForm::kCentre && m.sized && side >= 2)
      g *= 2.0 * own.mean / (1.0 + std::exp(static_cast<double>(level.reg[at + side])));
    grad[at + side] = static_cast<float>(g);
    return {};
  }
  const int64_t from = at + side * m.bins;
  const float* z = level.reg + from;
  const BinShares shares = bin_shares(box.distance[side]);
  SideTerm term{0.25 * weight * cross_entropy(z, own.log_sum, shares), 0.0};
  const float* teacher = p.teacher[place.level];
  TemperedPair pair{};
  double distill = 0.0;
  if (teacher != nullptr) {
    pair = tempered_pair(z, teacher + from, m.bins, 1.0 / p.temperature);
    const double share = p.scores->sum / (4.0 * p.scores->positives);
    term.distilled = share * p.temperature * p.temperature * pair.divergence;
    distill = p.scale[2] * share / p.scores->divisor * p.temperature;
  }
  if (grad == nullptr) return term;
  const double focal = 0.25 * p.scale[1] * each;
  for (int64_t k = 0; k < m.bins; ++k) {
    const double probability = std::exp(static_cast<double>(z[k]) - own.log_sum);
    double g = probability * (by_number * (static_cast<double>(k) - own.mean) + focal);
    if (k == shares.left) g -= focal * shares.left_weight;
    if (k == shares.left + 1) g -= focal * shares.right_weight;
    if (teacher != nullptr) g += distill * pair.difference(z[k], teacher[from + k]);
    grad[from + k] = static_cast<float>(g);
  }
  return term;
}

}  // namespace sextant::kernels::boxes
