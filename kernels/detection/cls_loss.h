// SPDX-License-Identifier: Apache-2.0
// Classification losses of dense detectors, summed, with their gradients.
//
// At row r (an anchor) with label l and target score q, each class c has probability p and target
// t, which is q where c == l and 0 elsewhere. With bce(p, t) = -t log p - (1 - t) log(1 - p):
//
//   varifocal      c == l: q bce(p, q);   else alpha p^gamma bce(p, 0)
//                  (VarifocalNet, Zhang et al. 2021, equation 2, as the official
//                  yolov6/models/losses/loss.py has it)
//   focal          c == l: alpha (1 - p)^gamma bce(p, 1);   else (1 - alpha) p^gamma bce(p, 0)
//                  (Lin et al. 2017, equation 5; the label counts as certain, q is not read)
//   quality_focal  |t - p|^gamma bce(p, t)   (Generalized Focal Loss, Li et al. 2020, equation 3)
//   poly           bce(p, t) + epsilon (1 - p_t),   p_t = t p + (1 - t)(1 - p)
//                  (PolyLoss, Leng et al. 2022, Poly-1 over binary cross-entropy; plain
//                  cross-entropy with epsilon 0)
//
// Each class's terms are multiplied by its weight, where there are any. The powers of p are part of
// what is differentiated; q is not.
#pragma once

#include <cstdint>

#include "core/enum_names.h"

namespace sextant::kernels {

enum class ClassLossType : int { kVarifocal, kFocal, kQualityFocal, kPoly };
constexpr auto enum_names(ClassLossType) {
  return make_enum_names<ClassLossType>("class loss",
                                        {{ClassLossType::kVarifocal, "varifocal"},
                                         {ClassLossType::kFocal, "focal"},
                                         {ClassLossType::kQualityFocal, "quality_focal"},
                                         {ClassLossType::kPoly, "poly"}});
}

// class_loss: `pred` are probabilities. Logarithms are clamped at -100 and p (1 - p) at 1e-12 in
// the gradient of bce, as in PyTorch's binary_cross_entropy. In double.
//
// class_loss_logits: `pred` are logits, the gradient is with respect to them. Without clamps: log p
// and log(1 - p) come from the logit, exact and finite everywhere. Vectorised in float, summed in
// double.
//
// The order of summation is fixed. CUDA: pred has fewer than 2^31 elements.
struct ClassLoss {
  const float* pred = nullptr;           // [rows, classes]
  const int32_t* label = nullptr;        // [rows]; negative: background
  const double* target = nullptr;        // [rows]; read where label >= 0; null: 1 everywhere
  const float* class_weights = nullptr;  // [classes]; null: 1 each
  float* grad = nullptr;  // [rows, classes]: grad_scale * d sum / d pred; may be null
  int64_t rows = 0;
  int64_t classes = 0;
  ClassLossType type = ClassLossType::kVarifocal;
  double alpha = 0.75;   // varifocal, focal
  double gamma = 2.0;    // all but poly; at least 1
  double epsilon = 1.0;  // poly
  double grad_scale = 1.0;
  // grad_scale is divided by this, a number in the kernel's memory; null: by 1.
  const double* divisor = nullptr;
  double* sum = nullptr;  // of the loss; overwritten
};

namespace cuda {
int64_t workspace_bytes(const ClassLoss& p);
}

}  // namespace sextant::kernels
