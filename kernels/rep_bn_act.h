// SPDX-License-Identifier: Apache-2.0
// Batch-norm of one to three parallel branches, their sum, and an activation, as one operation:
//
//   y = act( sum_b  gamma_b * (x_b - mean_b) * inv_std_b + beta_b )
//
// The RepVGG block's training form with three branches (3x3, 1x1, identity), an ordinary
// conv + BN + activation with one. inv_std = 1 / sqrt(var + eps). Batch statistics are over all
// rows of a channel; normalisation uses the biased variance, the running variance takes the
// unbiased one, as PyTorch's BatchNorm2d.
//
// x_b, y, dy, dx_b are [rows, channels] (NHWC flattened), of type `dtype`; the rest [channels],
// f32. CPU: f32 only. CUDA: F32, F16, BF16; arithmetic and statistics are f32.
//
// `across`: the rows are a part of a batch whose other parts are with other processes, and the
// statistics, as well as the means that backward subtracts, are of all rows: one sum over the
// processes, of all branches, in each direction (in backward where a dx is wanted). dgamma and dbeta
// are of the rows given.
#pragma once

#include <array>
#include <cstdint>

#include "core/communicator.h"
#include "core/dtype.h"
#include "kernels/math/activation.h"

namespace sextant::kernels {

inline constexpr int kMaxBranches = 3;

struct RepBnActForward {
  struct Branch {
    const void* x = nullptr;
    const float* gamma = nullptr;
    const float* beta = nullptr;
    // training: updated, running = (1 - momentum) * running + momentum * batch; may be null, then
    // nothing is updated. eval: read.
    float* running_mean = nullptr;
    float* running_var = nullptr;
    // For backward: the batch's statistics, in eval the running ones. Written; in eval they may be
    // null.
    float* mean = nullptr;
    float* inv_std = nullptr;
  };
  std::array<Branch, kMaxBranches> branch;
  int branches = 1;
  void* y = nullptr;
  int64_t rows = 0;  // training needs rows >= 2, of all processes
  int64_t channels = 0;
  Activation activation = Activation::kIdentity;
  float eps = 1e-3f;
  float momentum = 0.03f;
  bool training = true;
  DType dtype = DType::kF32;
  Communicator* across = nullptr;  // in training
};

// The gradients of the forward pass. The pre-activation is recomputed from the branches, so y is
// not needed. With training false, mean and inv_std are those of the running statistics and
// constants:
// dx_b = gamma_b * inv_std_b * g where g = dy * act'(pre).
struct RepBnActBackward {
  struct Branch {
    const void* x = nullptr;
    const float* gamma = nullptr;
    const float* beta = nullptr;
    const float* mean = nullptr;
    const float* inv_std = nullptr;
    void* dx = nullptr;       // overwritten; null when not wanted
    float* dgamma = nullptr;  // overwritten
    float* dbeta = nullptr;   // overwritten
  };
  std::array<Branch, kMaxBranches> branch;
  int branches = 1;
  const void* dy = nullptr;
  int64_t rows = 0;
  int64_t channels = 0;
  Activation activation = Activation::kIdentity;
  bool training = true;
  DType dtype = DType::kF32;
  Communicator* across = nullptr;  // in training
};

namespace cuda {
int64_t workspace_bytes(const RepBnActForward& p);
int64_t workspace_bytes(const RepBnActBackward& p);
}  // namespace cuda

}  // namespace sextant::kernels
