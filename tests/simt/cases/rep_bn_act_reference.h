// SPDX-License-Identifier: Apache-2.0
// rep_bn_act in double precision, written from the contract's formulas, and its test problems.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/rep_bn_act.h"
#include "simt/cases/cases.h"
#include "simt/stored.h"

namespace sextant::test {

// Inputs of forward and backward; x and dy are values that the dtype holds. dy is zero where the
// pre-activation lies at a kink of the activation, where float32 and double may fall on different
// sides.
struct RepBnProblem {
  RepBnProblem(int branches, int64_t rows, int64_t channels, Activation act, bool training,
               DType dtype = DType::kF32);
  // 1 / sqrt(running_var + eps): what backward gets in eval mode.
  std::vector<float> running_inv_std(int b) const;

  int branches;
  int64_t rows, channels;
  Activation act;
  bool training;
  DType dtype;
  float eps = 1e-3f;
  float momentum = 0.03f;
  std::array<std::vector<float>, kernels::kMaxBranches> x, gamma, beta, running_mean, running_var;
  std::vector<float> dy;
};

struct RepBnReference {
  explicit RepBnReference(const RepBnProblem& p);

  std::vector<double> y, pre;
  std::array<std::vector<double>, kernels::kMaxBranches> mean, inv_std, running_mean, running_var,
      dx, dgamma, dbeta;

 private:
  void statistics(const RepBnProblem& p, size_t b);
  void gradients(const RepBnProblem& p);
};

}  // namespace sextant::test
