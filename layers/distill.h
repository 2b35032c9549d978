// SPDX-License-Identifier: Apache-2.0
// Distillation losses between feature maps.
#pragma once

#include <vector>

#include "core/variable.h"

namespace sextant {

// Channel-wise distillation (Shu et al. 2021, equations 2-3): each channel of each image is a
// distribution over its pixels, and the student's is pulled toward the teacher's,
//
//   T^2 / (N C) * sum over images and channels of KL(softmax(teacher / T) || softmax(student / T)).
//
// student and teacher f32 [N,H,W,C] of equal shape (throws Error otherwise), temperature above 0.
// Scalar [1]; the teacher is treated as constant. kernels/detection/kl_div.h.
Variable channel_wise_distillation(const Variable& student, const Tensor& teacher,
                                   double temperature = 1.0);

// Distillation of class scores, each class on its own, as in the detector: with
// t = sigmoid(teacher / T) and s = sigmoid(student / T) of the logits,
//
//   T^2 * sum KL(Bernoulli(t) || Bernoulli(s)) / max(1, sum t).
//
// Unlike a softmax over the classes, this is meaningful with a single class, and background weighs
// no more than its scores. Logits f32 of equal shapes, level by level (at most eight), all on one
// device; temperature above 0. Scalar [1]; the teacher is treated as constant.
// kernels/detection/bernoulli_kl.h.
Variable score_distillation(const std::vector<Variable>& student,
                            const std::vector<Tensor>& teacher, double temperature = 1.0);

}  // namespace sextant
