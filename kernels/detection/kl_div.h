// SPDX-License-Identifier: Apache-2.0
// Distillation by Kullback-Leibler divergence of tempered softmaxes, fused with its gradient.
//
// x [outer, axis, inner], softmax along the middle axis. For each of the outer * inner columns
//
//   T^2 KL(softmax(teacher / T) || softmax(student / T)),   T the temperature
//   d / d student = T (softmax(student / T) - softmax(teacher / T))
//
// (Hinton et al. 2015, section 2). Channel-wise distillation (Shu et al. 2021, equations 2-3) is
// outer N, axis H*W, inner C over NHWC maps; class and distribution distillation of the official
// yolov6/models/losses/loss_distill.py are inner 1 over the classes or the bins of a side. That
// code softmaxes class scores which have been through a sigmoid: `sigmoid` takes logits and does
// the same.
#pragma once

#include <cstdint>

namespace sextant::kernels {

// Computed in double; the order of summation is fixed.
struct KlDiv {
  const float* student = nullptr;  // [outer, axis, inner]
  const float* teacher = nullptr;  // [outer, axis, inner]
  float* grad = nullptr;  // [outer, axis, inner]: grad_scale * d sum / d student; may be null
  int64_t outer = 0;
  int64_t axis = 0;
  int64_t inner = 1;
  double temperature = 1.0;
  double grad_scale = 1.0;
  bool sigmoid = false;     // both go through a sigmoid first, the gradient is by the logits
  bool accumulate = false;  // add to grad instead of overwriting it
  double* sum = nullptr;    // over the columns, at least 0; overwritten
};

namespace cuda {
int64_t workspace_bytes(const KlDiv& p);
}

}  // namespace sextant::kernels
