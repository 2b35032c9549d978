// SPDX-License-Identifier: Apache-2.0
// Pictures of an evaluation and of the labels of a split.
#pragma once

#include <string>
#include <vector>

#include "data/dataset/dataset.h"
#include "data/image/image.h"
#include "deploy/detect/evaluation.h"

namespace sextant::apps {

// A picture of a run folder, with what is said below it.
struct PictureText {
  const char* file;  // "pr.png"
  const char* caption;
  bool photograph = false;
};
// Of an evaluation, in the order of a report: charts first, then photographs.
const std::vector<PictureText>& evaluation_pictures();
inline constexpr PictureText kLabelsPicture{
    "labels.png",
    "The labels of the training split: boxes of each class, "
    "boxes of each image, where their centres are, how large "
    "they are."};

// A chart of evaluation_pictures(): precision, recall and F1 over the confidence, precision over
// recall, the confusion matrix as counts and as shares. Classes are named up to ten; more are thin
// grey lines.
data::Image draw_evaluation_chart(const std::string& file, const deploy::EvalResult& result,
                                  const std::vector<std::string>& names);
// A photograph of evaluation_pictures(), labels beside detections: images spread over the split, or
// those with the lowest or highest F1, at the confidence of the best F1. Images that cannot be
// decoded are left out; empty when none is left.
data::Image draw_evaluation_photographs(const std::string& file, const deploy::EvalResult& result,
                                        const data::Dataset& dataset);

data::Image draw_labels(const data::Dataset& dataset);

}  // namespace sextant::apps
