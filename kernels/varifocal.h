// Varifocal loss (VarifocalNet, Zhang et al. 2021, equation 2, as the official
// yolov6/models/losses/loss.py has it), summed, with its gradient.
//
// At row r (an anchor) with label l and target score q, for each class c with probability p:
//   c == l:  q * bce(p, q)
//   else:    alpha * p^gamma * bce(p, 0)
// bce(p, q) = -q log p - (1 - q) log(1 - p). The weight of a negative is part of what is
// differentiated; q is not.
#pragma once

#include <cstdint>

namespace sextant::kernels {

struct Varifocal {
  const float* pred = nullptr;     // [rows, classes]
  const int32_t* label = nullptr;  // [rows]; negative: background
  const double* target = nullptr;  // [rows]; read where label >= 0
  float* grad = nullptr;           // [rows, classes]: grad_scale * d sum / d pred; may be null
  int64_t rows = 0;
  int64_t classes = 0;
  double alpha = 0.75;
  double gamma = 2.0;
  double grad_scale = 1.0;
};

namespace cpu {
// Returns the sum of the loss. The order of summation is fixed.
//
// `pred` are probabilities. Logarithms are clamped at -100 and p (1 - p) at 1e-12 in the gradient,
// as in PyTorch's binary_cross_entropy. In double.
double varifocal(const Varifocal& p);
// `pred` are logits, the gradient is with respect to them. Without clamps: log p and log(1 - p)
// come from the logit, exact and finite everywhere. Vectorised in float, summed in double.
double varifocal_logits(const Varifocal& p);
}  // namespace cpu
// The same contract gets a CUDA twin, namespace cuda, with a Stream.

}  // namespace sextant::kernels
