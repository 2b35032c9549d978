// SPDX-License-Identifier: Apache-2.0
#include "kernels/detection/box_loss.h"

#include <vector>

#include "core/parallel.h"
#include "kernels/cpu/namespace.h"
#include "kernels/math/box.h"

namespace sextant::kernels::SEXTANT_CPU {
namespace {

using namespace boxes;

// Anchors are summed in runs of this many, whatever the number of threads.
constexpr int64_t kRun = 1024;

// Anchor `at` of all images.
void anchor_loss(const BoxLoss& p, int64_t anchors, int64_t at, double* sums) {
  const int64_t image = at / anchors;
  const Place place = place_of(p.maps, image, at % anchors);
  SideSums side[4];
  double number[4];
  for (int i = 0; i < 4; ++i) {
    side[i] = number_of(p.maps, place, i);
    number[i] = side[i].mean;
  }
  const BoxTerm box = box_term(p, place, number, p.gt_begin[image] + p.assigned[at]);
  const double weight = p.target[at];
  sums[0] += weight * box.loss;
  for (int i = 0; i < 4; ++i) {
    const SideTerm term = side_term(p, place, i, side[i], box, weight);
    sums[1] += term.focal;
    sums[2] += term.distilled;
  }
}

}  // namespace

void box_loss(const BoxLoss& p) {
  const int64_t anchors = p.maps.anchors(), total = p.maps.batch * anchors;
  const int64_t runs = (total + kRun - 1) / kRun;
  std::vector<double> partial(kBoxLossSums * runs, 0.0);
  parallel_for(runs, 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      for (int64_t at = r * kRun; at < std::min(total, (r + 1) * kRun); ++at)
        if (p.assigned[at] >= 0) anchor_loss(p, anchors, at, &partial[kBoxLossSums * r]);
  });
  for (int s = 0; s < kBoxLossSums; ++s) {
    p.sums[s] = 0.0;
    for (int64_t r = 0; r < runs; ++r) p.sums[s] += partial[kBoxLossSums * r + s];
  }
}

void decode_boxes(const DecodeBoxes& p) {
  const int64_t anchors = p.maps.anchors();
  parallel_for(p.maps.batch * anchors, kRun, [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; ++at) {
      if (p.wanted[at] == 0) continue;
      const Place place = place_of(p.maps, at / anchors, at % anchors);
      double number[4];
      for (int i = 0; i < 4; ++i) number[i] = number_of(p.maps, place, i).mean;
      double* box = p.boxes + 4 * at;
      box_of(p.maps.form, place, number, box);
      for (int i = 0; i < 4; ++i) box[i] *= p.maps.level[place.level].stride;
    }
  });
}

}  // namespace sextant::kernels::SEXTANT_CPU
