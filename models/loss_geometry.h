// Where the anchors of a branch are, and how its maps become boxes.
#pragma once

#include <cstdint>
#include <vector>

#include "models/loss_evaluation.h"

namespace sextant::loss_detail {

// A place among a branch's predictions.
struct Position {
  int64_t image;
  int level;
  int64_t box;     // which of the cell's boxes
  int64_t pixel;   // within the level
  int64_t anchor;  // within the image
};

class Geometry {
 public:
  Geometry(const LossConfig& config, const Branch& branch);

  const std::vector<double>& points() const { return points_; }  // [A,2] pixels
  double stride(const Position& p) const { return static_cast<double>(config_.strides[p.level]); }
  // Which of the vectors of a map of `per_cell` boxes belongs to p.
  int64_t row(const Position& p) const {
    const LevelMaps& m = branch_.levels[p.level];
    return (p.image * m.pixels() + p.pixel) * branch_.per_cell + p.box;
  }
  const float* reg(const Position& p) const {
    return branch_.levels[p.level].reg + row(p) * branch_.reg_channels;
  }

  // A box in units of the stride, with what its gradient needs: for distributions the
  // probabilities, prob [reg_channels].
  struct Decoded {
    double box[4];
    double mean[4];  // the numbers the form is about
  };
  void decode(const Position& p, double* prob, Decoded& out) const;
  // The same for four plain distances.
  void decode_distances(const Position& p, const float* distances, double* box) const;
  // d [reg_channels] = the gradient with respect to the map, given that with respect to the box.
  void decode_backward(const double* box_grad, const double* prob, const Decoded& decoded,
                       const float* reg, double* d) const;

  // Calls f(position) for all anchors of image n, in order.
  template <class F>
  void each_anchor(int64_t n, const F& f) const {
    Position p{n, 0, 0, 0, 0};
    for (; p.level < static_cast<int>(branch_.levels.size()); ++p.level)
      for (p.box = 0; p.box < branch_.per_cell; ++p.box)
        for (p.pixel = 0; p.pixel < branch_.levels[p.level].pixels(); ++p.pixel, ++p.anchor) f(p);
  }

 protected:
  const LossConfig& config_;
  const Branch& branch_;
  std::vector<double> points_;
};

}  // namespace sextant::loss_detail
