// SPDX-License-Identifier: Apache-2.0
// Differentiable functions over the kernels. f32, NHWC, weights [O,kh,kw,I]. Each validates its
// shapes (throws Error), runs one kernel, records one autograd node, and reports itself to
// core/trace.h while a Recorder is alive. All inputs must be on one device; the function runs there
// and its result lies there (kernels/backend.h).
#pragma once

#include <vector>

#include "core/variable.h"
#include "kernels/math/activation.h"

namespace sextant {

struct ConvParams {
  int64_t stride = 1;
  int64_t padding = 0;
  int64_t groups = 1;
};

// x [N,H,W,I], weight [O,kh,kw,I/groups], bias [O] or undefined -> [N,OH,OW,O].
Variable conv2d(const Variable& x, const Variable& weight, const Variable& bias, ConvParams params);

// Kernel equal to stride, no padding. x [N,H,W,I], weight [O,k,k,I], bias [O] or undefined
// -> [N,H*k,W*k,O].
Variable conv_transpose2d(const Variable& x, const Variable& weight, const Variable& bias);

// The parameters and running statistics of one batch-norm, all [C].
struct BatchNormState {
  Variable gamma, beta;
  Tensor running_mean, running_var;
};

struct BatchNormParams {
  float eps = 1e-3f;
  float momentum = 0.03f;
  bool training = true;
};

// act(sum_b BN_b(x_b)) of one to three branches of equal shape, as one node: kernels/rep_bn_act.h.
// Training needs at least two values per channel; it updates the running statistics.
Variable rep_bn_act(const std::vector<Variable>& branches, const std::vector<BatchNormState>& norms,
                    Activation act, BatchNormParams params);
inline Variable batch_norm(const Variable& x, const BatchNormState& norm, BatchNormParams params) {
  return rep_bn_act({x}, {norm}, Activation::kIdentity, params);
}

// The RepVGG block's training form as one node:
//   y = act(BN3(conv3x3(x)) + BN1(conv1x1(x)) [+ BN0(x)])
// It equals rep_bn_act over two convolutions, but the three gradients with respect to x are added
// inside the convolutions instead of in separate passes. norms = {3x3, 1x1[, identity]}; the
// weights' last dimension determines the number of groups.
Variable rep_vgg(const Variable& x, const Variable& weight3, const Variable& weight1,
                 const std::vector<BatchNormState>& norms, int64_t stride, Activation act,
                 BatchNormParams params);

Variable activation(const Variable& x, Activation act);
inline Variable relu(const Variable& x) { return activation(x, Activation::kReLU); }
inline Variable silu(const Variable& x) { return activation(x, Activation::kSiLU); }
inline Variable sigmoid(const Variable& x) { return activation(x, Activation::kSigmoid); }

struct PoolParams {
  int64_t kernel = 2;
  int64_t stride = 2;
  int64_t padding = 0;
};
// Padding is never the maximum; the gradient goes to the first maximum of a window.
Variable max_pool2d(const Variable& x, PoolParams params);

// x and three chained max-pools of it (odd kernel, stride 1, same size), concatenated:
// [N,H,W,C] -> [N,H,W,4C], as one node. Traced as three max_pool2d and a concat.
Variable pool_pyramid(const Variable& x, int64_t kernel);

// Mean of the kernel x kernel neighborhood, odd kernel, stride 1; the zeros outside the map count.
// Traced as a depthwise convolution, which it is.
Variable average_pool2d(const Variable& x, int64_t kernel);

Variable upsample_nearest(const Variable& x, int64_t scale);
Variable add(const Variable& a, const Variable& b);
// a + alpha * b, alpha [1].
Variable add(const Variable& a, const Variable& b, const Variable& alpha);
// sum_b scales[b] * branches[b], per channel, as one node: two to four branches [..,C] of equal
// shape; `scales` is empty (all 1) or has one [C] per branch. Traced as depthwise 1x1 convolutions
// and additions.
Variable branch_sum(const std::vector<Variable>& branches, const std::vector<Variable>& scales);
// alpha * x
Variable scale(const Variable& x, float alpha);
// Along the last axis (channels); all other dimensions equal.
Variable concat(const std::vector<Variable>& inputs);
// Channels [begin, end).
Variable slice_channels(const Variable& x, int64_t begin, int64_t end);
// a * b of equal shapes, or with b [N,1,1,C] one pixel for all of an image's: the gates of
// squeeze-and-excitation.
Variable multiply(const Variable& a, const Variable& b);
// Mean over the pixels: [N,H,W,C] -> [N,1,1,C], summed in double.
Variable global_average(const Variable& x);
// Channel c of the result is channel order[c] of x; `order` names each channel once.
Variable permute_channels(const Variable& x, const std::vector<int64_t>& order);
// Scalar [1]: sum of x_i * w_i (w constant); used by tests and simple losses.
Variable weighted_sum(const Variable& x, const Tensor& w);

// Fake quantization with straight-through gradient (kernels/fake_quant.h). amax [1] for the whole
// tensor, or [C] with `axis` the channel dimension of x.
struct FakeQuantParams {
  int bits = 8;
  bool is_unsigned = false;
  bool narrow_range = true;
  int axis = -1;  // used when amax has more than one entry
};
Variable fake_quant(const Variable& x, const Tensor& amax, FakeQuantParams params);

// Bytes [N,H,W,C] to floats in 0..1.
Tensor image_to_float(const Tensor& bytes);

}  // namespace sextant
