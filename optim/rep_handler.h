// RepOptimizer: an architecture's prior as re-initialisation and gradient multipliers.
// (Ding et al., "Re-parameterizing Your Optimizers rather than Architectures", 2022.)
//
// A block whose output is a sum of linear branches, each with a constant scale per output channel,
//
//   y = sum_b s_b (w_b * x)  [+ t x],   t a trained scale per channel,
//
// trains like the single operator y = W * x when W starts as the sum of the scaled branch kernels,
// each at the centre of W, and its gradient is multiplied, element by element, by the sum of
//
//   SGD (sum of s_b^2) and AdamW (sum of s_b, of gradient and update alike)
//
// over the branches that reach the element; the identity adds 1 on the centre of its own channel,
// because t is trained directly (section 3.2; official repoptimizer/*.py). With SGD the two stay
// equal, weight decay included, since it comes after the multiplier. With AdamW they stay equal up
// to Adam's eps, and only where the scales that meet in an element have one sign.
//
// Handlers know nothing of a model: whoever has such a block describes its branches, reinitialises
// the weight and gives the multiplier to the optimizer with the parameter:
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

// One of the parallel branches. Its operator has the target's stride, dilation and groups, no bias,
// and is centred: padding (kernel - 1) / 2 where the target's is half of its own kernel less one.
struct LinearBranch {
  enum class Kind { kConv, kIdentity };
  Kind kind = Kind::kConv;
  int64_t kernel = 1;  // side, odd; 1 for the identity
  Tensor scale;        // F32 [O]; the identity's is where its trained scale starts
  // kConv: the branch's kernel [O,kernel,kernel,I/groups] at the start. Undefined: see
  // reinitialised().
  Tensor weight = {};
};
inline LinearBranch conv_branch(int64_t kernel, Tensor scale, Tensor weight = {}) {
  return {LinearBranch::Kind::kConv, kernel, std::move(scale), std::move(weight)};
}
inline LinearBranch identity_branch(Tensor scale) {
  return {LinearBranch::Kind::kIdentity, 1, std::move(scale), {}};
}

// What one target weight [O,k,k,I/groups], k odd, stands for.
struct RepHandler {
  std::string parameter;  // its name
  int64_t groups = 1;
  std::vector<LinearBranch> branches;
};

// The weight to start from, in new memory. A convolution without a `weight` starts from `target`'s
// own values if it is the first of the target's size, else from a drawn kernel with the default
// initialisation of Conv2d. Throws Error naming the parameter for a shape that does not fit.
Tensor reinitialised(const RepHandler& handler, const Tensor& target, Rng& rng);

// The factors of the gradient of a target of this shape, F32. Throws Error as reinitialised().
Tensor multipliers(const RepHandler& handler, const Shape& target, RepRule rule);

// The same for the named parameters: overwrites their values, sets their multiplier. Both throw
// Error for a handler whose parameter is not there or that another handler has.
void reinitialise(const std::vector<RepHandler>& handlers,
                  const std::vector<NamedParameter>& parameters, Rng& rng);
void set_multipliers(const std::vector<RepHandler>& handlers,
                     std::vector<NamedParameter>& parameters, RepRule rule);

}  // namespace sextant::optim
