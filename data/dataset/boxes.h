// SPDX-License-Identifier: Apache-2.0
// Checks boxes from files and adds them to samples. Used only by the readers of dataset formats.
#pragma once

#include <cstdint>
#include <limits>
#include <set>
#include <string>
#include <tuple>

#include "data/dataset/dataset.h"

namespace sextant::data {

// A placeholder image id, replaced by the sample's position once that is known.
inline constexpr int64_t kPositionId = std::numeric_limits<int64_t>::min();

// A box as stored in a file.
struct RawBox {
  double category = 0;
  double x1 = 0, y1 = 0, x2 = 0, y2 = 0;  // relative to the image
  double tolerance_x = 0, tolerance_y = 0;
  bool crowd = false;
  double area = 0;
};

// A box in pixels of the sample; it may extend beyond the image by one pixel.
RawBox pixel_box(const Sample& sample, double category, double x1, double y1, double x2, double y2);

// Checks and counts the boxes of one sample.
class SampleBoxes {
 public:
  SampleBoxes(Sample sample, int64_t num_classes)
      : num_classes_(num_classes), sample_(std::move(sample)) {}

  const Sample& sample() const { return sample_; }
  Sample take() { return std::move(sample_); }
  // Appends the box, or rejects it with an issue at the location `at`.
  void add(const RawBox& raw, const LabelIssue& at, LabelReport& report);
  // Rejects an annotation that is not a box.
  void refuse(LabelIssue at, const char* kind, std::string message, LabelReport& report);
  // All annotations were invalid: the image must not be used for training, least of all as one
  // without objects.
  bool all_refused() const { return refused_ > 0 && sample_.labels.empty(); }

 private:
  int64_t num_classes_;
  Sample sample_;
  int64_t refused_ = 0;
  std::set<std::tuple<int, float, float, float, float, bool>> seen_;
};

// Appends a sample to the dataset, or reports that it is left out.
void finish_sample(SampleBoxes&& boxes, Dataset& dataset);

}  // namespace sextant::data
