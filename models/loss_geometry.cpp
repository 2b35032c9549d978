#include "models/loss_geometry.h"

#include <algorithm>
#include <cmath>

#include "kernels/anchors.h"
#include "kernels/dfl.h"

namespace sextant::loss_detail {

Geometry::Geometry(const LossConfig& config, const Branch& branch)
    : config_(config), branch_(branch) {
  kernels::GenerateAnchors generate;
  generate.grid.levels = static_cast<int>(branch.levels.size());
  generate.grid.repeats = static_cast<int>(branch.per_cell);
  for (size_t l = 0; l < branch.levels.size(); ++l)
    generate.grid.level[l] = {branch.levels[l].height, branch.levels[l].width,
                              static_cast<float>(config.strides[l])};
  std::vector<float> points(2 * branch.anchors);
  generate.points = points.data();
  kernels::cpu::generate_anchors(generate);
  points_.assign(points.begin(), points.end());
}

void Geometry::decode_distances(const Position& p, const float* distances, double* box) const {
  double d[4];
  std::copy_n(distances, 4, d);
  const double* point = &points_[2 * p.anchor];
  kernels::dist2bbox(point[0] / stride(p), point[1] / stride(p), d, box);
}

void Geometry::decode(const Position& p, double* prob, Decoded& out) const {
  const float* r = reg(p);
  const double x = points_[2 * p.anchor] / stride(p), y = points_[2 * p.anchor + 1] / stride(p);
  if (branch_.form == BoxForm::kDistribution) {
    kernels::Expectation<double> e;
    e.logits = r;
    e.prob = prob;
    e.mean = out.mean;
    e.rows = 4;
    e.bins = branch_.reg_channels / 4;
    kernels::cpu::expectation(e);
    kernels::dist2bbox(x, y, out.mean, out.box);
  } else if (branch_.form == BoxForm::kDistances) {
    std::copy_n(r, 4, out.mean);
    kernels::dist2bbox(x, y, out.mean, out.box);
  } else {
    std::copy_n(r, 4, out.mean);
    if (!config_.anchors.empty())
      for (int i = 0; i < 2; ++i) {
        const double twice = 2.0 / (1.0 + std::exp(-out.mean[2 + i]));
        out.mean[2 + i] = twice * twice * config_.anchors[p.level][2 * p.box + i] / stride(p);
      }
    const double centre[2] = {x + out.mean[0], y + out.mean[1]};
    for (int i = 0; i < 2; ++i) {
      out.box[i] = centre[i] - 0.5 * out.mean[2 + i];
      out.box[2 + i] = centre[i] + 0.5 * out.mean[2 + i];
    }
  }
}

void Geometry::decode_backward(const double* box_grad, const double* prob, const Decoded& decoded,
                               const float* reg, double* d) const {
  if (branch_.form == BoxForm::kCentre) {
    for (int i = 0; i < 2; ++i) {
      d[i] = box_grad[i] + box_grad[2 + i];
      d[2 + i] = 0.5 * (box_grad[2 + i] - box_grad[i]);
      if (!config_.anchors.empty())  // d size / d a = 2 size (1 - sigmoid(a))
        d[2 + i] *= 2.0 * decoded.mean[2 + i] / (1.0 + std::exp(static_cast<double>(reg[2 + i])));
    }
    return;
  }
  const int64_t bins = branch_.reg_channels / 4;
  for (int side = 0; side < 4; ++side) {
    const double by_distance = side < 2 ? -box_grad[side] : box_grad[side];
    if (branch_.form == BoxForm::kDistances) {
      d[side] = by_distance;
      continue;
    }
    for (int64_t k = 0; k < bins; ++k)
      d[side * bins + k] =
          by_distance * prob[side * bins + k] * (static_cast<double>(k) - decoded.mean[side]);
  }
}

}  // namespace sextant::loss_detail
