// SPDX-License-Identifier: Apache-2.0
// RepOptimizer: an architecture's prior as re-initialization and gradient multipliers.
// (Ding et al., "Re-parameterizing Your Optimizers rather than Architectures", 2022.)
//
// A block whose output is a sum of linear branches, each with a constant scale per output channel,
//
//   y = sum_b s_b (w_b * x)  [+ t x],   t a trained scale per channel,
//
// trains like the single operator y = W * x when W starts as the sum of the scaled branch kernels,
// each at the center of W, and its gradient is multiplied, element by element, by the sum of
//
//   SGD (sum of s_b^2) and AdamW (sum of s_b, of gradient and update alike)
//
// over the branches that reach the element; the identity adds 1 on the center of its own channel,
// because t is trained directly (section 3.2; official repoptimizer/*.py). With SGD the two stay
// equal, including weight decay, which is applied after the multiplier. With AdamW they stay equal
// up to Adam's eps, and only where the scales that meet in an element have one sign.
//
// Handlers are independent of the model: the owner of such a block describes its branches,
// re-initializes the weight and passes the multiplier to the optimizer with the parameter:
//
//   const std::vector<RepHandler> handlers = {{.parameter = "stem.conv.weight",
//       .branches = {conv_branch(3, scale3), conv_branch(1, scale1), identity_branch(scale0)}}};
//   reinitialise(handlers, parameters, rng);
//   set_multipliers(handlers, parameters, RepRule::kSgd);
//   Sgd sgd(parameters, options);
#pragma once

#include <string>
#include <vector>

#include "core/rng.h"
#include "optim/param_groups.h"

namespace sextant::optim {

// The power of the scales in the multipliers.
enum class RepRule { kSgd = 2, kAdam = 1 };

// One of the parallel branches. Its operator has the target's stride, dilation and groups and no
// bias. It is centered: its padding is (kernel - 1) / 2, like the target's for the target's kernel.
struct LinearBranch {
  enum class Kind { kConv, kIdentity };
  Kind kind = Kind::kConv;
  int64_t kernel = 1;  // side, odd; 1 for the identity
  Tensor scale;        // F32 [O]; for the identity, the start of its trained scale
  // kConv: the branch's initial kernel [O,kernel,kernel,I/groups]. Undefined: see reinitialised().
  Tensor weight = {};
};
inline LinearBranch conv_branch(int64_t kernel, Tensor scale, Tensor weight = {}) {
  return {LinearBranch::Kind::kConv, kernel, std::move(scale), std::move(weight)};
}
inline LinearBranch identity_branch(Tensor scale) {
  return {LinearBranch::Kind::kIdentity, 1, std::move(scale), {}};
}

// The branches that one target weight [O,k,k,I/groups], k odd, stands for.
struct RepHandler {
  std::string parameter;  // its name
  int64_t groups = 1;
  std::vector<LinearBranch> branches;
};

// The initial weight, in new memory. A convolution without a `weight` starts from `target`'s own
// values if it is the first of the target's size, otherwise from a random kernel with the default
// initialization of Conv2d. Throws Error naming the parameter for a shape that does not fit.
Tensor reinitialised(const RepHandler& handler, const Tensor& target, Rng& rng);

// The gradient multipliers of a target of this shape, F32. Throws Error as reinitialised() does.
Tensor multipliers(const RepHandler& handler, const Shape& target, RepRule rule);

// The same for the named parameters: overwrites their values, sets their multipliers. Both throw
// Error for a handler whose parameter is missing or is claimed by another handler.
void reinitialise(const std::vector<RepHandler>& handlers,
                  const std::vector<NamedParameter>& parameters, Rng& rng);
void set_multipliers(const std::vector<RepHandler>& handlers,
                     std::vector<NamedParameter>& parameters, RepRule rule);

}  // namespace sextant::optim
