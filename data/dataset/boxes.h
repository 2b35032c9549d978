// Boxes as files have them, on their way into a sample. Used by the readers of formats only.
#pragma once

#include <cstdint>
#include <limits>
#include <set>
#include <string>
#include <tuple>

#include "data/dataset/dataset.h"

namespace sextant::data {

// An image id to be replaced by the sample's position, once that is known.
inline constexpr int64_t kPositionId = std::numeric_limits<int64_t>::min();

// A box as it stands in a file.
struct RawBox {
  double category = 0;
  double x1 = 0, y1 = 0, x2 = 0, y2 = 0;  // relative to the image
  double tolerance_x = 0, tolerance_y = 0;
  bool crowd = false;
  double area = 0;
};

// A box in pixels of the sample: it may reach out of it by a pixel.
RawBox pixel_box(const Sample& sample, double category, double x1, double y1, double x2, double y2);

// Takes the boxes of one sample, checks each, and keeps count.
class SampleBoxes {
 public:
  SampleBoxes(Sample sample, int64_t num_classes)
      : num_classes_(num_classes), sample_(std::move(sample)) {}

  const Sample& sample() const { return sample_; }
  Sample take() { return std::move(sample_); }
  // Appends the box, or refuses it. `at` has its place.
  void add(const RawBox& raw, const LabelIssue& at, LabelReport& report);
  // An annotation that is no box.
  void refuse(LabelIssue at, const char* kind, std::string message, LabelReport& report);
  // There were annotations and none could be used: an image that is not to be trained on, least of
  // all as one without objects.
  bool all_refused() const { return refused_ > 0 && sample_.labels.empty(); }

 private:
  int64_t num_classes_;
  Sample sample_;
  int64_t refused_ = 0;
  std::set<std::tuple<int, float, float, float, float, bool>> seen_;
};

// Appends a sample to the data set, or reports that it is left out.
void finish_sample(SampleBoxes&& boxes, Dataset& dataset);

}  // namespace sextant::data
