// SPDX-License-Identifier: Apache-2.0
// The step of an optimizer over all parameters of a model at once, with the division by the loss
// scale before it and the moving average of the parameters after it.
//
// Per element, with g = multiplier * grad / loss_scale (RepOptimizer's multiplier; 1 without one):
//
//   kSgd   g += decay * p;  m = momentum * m + g;  p -= lr * (nesterov ? g + momentum * m : m)
//   kAdam  decoupled (AdamW): p *= 1 - lr * decay; else g += decay * p
//          m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2
//          p -= multiplier * lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
//   then   average += (1 - d)(p - average)
//
// as torch.optim.SGD (dampening 0), Adam and AdamW. Adam is invariant to a factor of its gradient,
// so it applies the multiplier a second time (as the official repoptimizer_adamw.py). t counts the
// updates of each parameter separately. In this form the average of a constant stays constant; with
// d * average + (1 - d) * p the rounded factors would not add up to 1.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/math/activation.h"

namespace sextant::kernels {

enum class UpdateRule { kSgd, kAdam };

// One tensor, all f32 but the count. Without a gradient only the average is updated, so running
// statistics can be in the list too.
struct UpdateTensor {
  float* param = nullptr;
  const float* grad = nullptr;        // or null
  const float* multiplier = nullptr;  // or null
  float* moment = nullptr;            // SGD's buffer, Adam's m; with a gradient
  float* square = nullptr;            // Adam's v; with a gradient
  int64_t* step = nullptr;            // Adam: updates so far; with a gradient
  float* average = nullptr;           // or null
  int64_t n = 0;
  int32_t group = 0;  // whose lr and decay

  bool operator==(const UpdateTensor&) const = default;
};

// A model has a few hundred parameters, most of them of 16 to 256 values. So all are cut into
// pieces of at most kUpdatePiece elements, and one pass walks the list of pieces. Elements are
// independent: the result does not depend on the cut.
inline constexpr int64_t kUpdatePiece = 4096;
struct UpdatePiece {
  int32_t tensor;
  int32_t index;  // elements index * kUpdatePiece and following
};
std::vector<UpdatePiece> cut_into_pieces(const std::vector<UpdateTensor>& tensors);

// The lists lie where the kernel runs, in host or device memory.
struct UpdateList {
  const UpdateTensor* tensors = nullptr;
  int64_t count = 0;
  const UpdatePiece* pieces = nullptr;  // all of cut_into_pieces()
  int64_t piece_count = 0;
};

inline constexpr int kUpdateGroups = 3;

struct MultiTensorUpdate {
  UpdateList list;
  UpdateRule rule = UpdateRule::kSgd;
  double lr[kUpdateGroups] = {};
  double decay[kUpdateGroups] = {};
  double momentum = 0.0;   // SGD
  bool nesterov = true;    // SGD
  bool decoupled = false;  // Adam
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double average_rest = 0.0;          // 1 - d
  const float* loss_scale = nullptr;  // gradients are divided by it; null: 1
  const int32_t* overflow = nullptr;  // not 0: no parameter is updated, no step counted; or null
};

// *overflow = 1 when one of the gradients is infinite or NaN; else it keeps its value.
struct FindOverflow {
  UpdateList list;
  int32_t* overflow = nullptr;
};

// Dynamic loss scaling, as torch.amp.GradScaler: after an overflow the scale shrinks, after
// `interval` steps without one it grows, unless it would become infinite. Then *overflow = 0.
struct UpdateLossScale {
  float* scale = nullptr;
  int32_t* good_steps = nullptr;  // since the scale changed
  int32_t* overflow = nullptr;
  float growth = 2.0f;
  float backoff = 0.5f;
  int32_t interval = 2000;
};

namespace cuda {
// One launch over all pieces; Adam has a second, small one before it, that counts the steps.
// Nothing is read back: loss scaling runs on the device alone.
int64_t workspace_bytes(const MultiTensorUpdate& p);  // 0 for SGD
}  // namespace cuda

// --- one definition for the CPU and CUDA --------------------------------------------------------

// The constants of a tensor's update. `grad` is the gradient times its multiplier, unscaled.
template <bool kNesterov>
struct SgdStep {
  float lr, momentum, decay;
  SEXTANT_HD void operator()(float& p, float& moment, float grad) const {
    const float g = grad + decay * p;
    const float b = momentum * moment + g;
    moment = b;
    p -= lr * (kNesterov ? g + momentum * b : b);
  }
};

struct AdamStep {
  float keep;        // 1 - lr * decay (AdamW)
  float decay;       // (Adam)
  float step_size;   // lr / (1 - beta1^t)
  float correction;  // 1 / sqrt(1 - beta2^t)
  float beta1, beta2, rest1, rest2, eps;
  SEXTANT_HD void operator()(float& p, float& moment, float& square, float grad,
                             float factor) const {
    const float g = grad + decay * p;
    const float m = beta1 * moment + rest1 * g;
    const float v = beta2 * square + rest2 * g * g;
    moment = m;
    square = v;
    p = keep * p - factor * (step_size * m / (std::sqrt(v) * correction + eps));
  }
};

// The constants of the t-th update, t from 1.
SEXTANT_HD AdamStep adam_step(const MultiTensorUpdate& p, int32_t group, int64_t t) {
  const double rate = p.lr[group], decay = p.decay[group];
  const auto count = static_cast<double>(t);
  AdamStep s{};
  s.keep = p.decoupled ? static_cast<float>(1.0 - rate * decay) : 1.0f;
  s.decay = p.decoupled ? 0.0f : static_cast<float>(decay);
  s.step_size = static_cast<float>(rate / (1.0 - std::pow(p.beta1, count)));
  s.correction = static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(p.beta2, count)));
  s.beta1 = static_cast<float>(p.beta1);
  s.beta2 = static_cast<float>(p.beta2);
  s.rest1 = static_cast<float>(1.0 - p.beta1);
  s.rest2 = static_cast<float>(1.0 - p.beta2);
  s.eps = static_cast<float>(p.eps);
  return s;
}

SEXTANT_HD void step_loss_scale(const UpdateLossScale& p) {
  if (*p.overflow != 0) {
    *p.scale *= p.backoff;
    *p.good_steps = 0;
  } else if (++*p.good_steps >= p.interval) {
    const float grown = *p.scale * p.growth;
    if (grown <= 3.402823466e38f) *p.scale = grown;
    *p.good_steps = 0;
  }
  *p.overflow = 0;
}

}  // namespace sextant::kernels
