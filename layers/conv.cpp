// SPDX-License-Identifier: Apache-2.0
// conv2d, conv_transpose2d and the functions with batch-norm after a convolution.
#include "kernels/conv.h"

#include <algorithm>

#include "core/trace.h"
#include "layers/autocast.h"
#include "layers/functional.h"
#include "layers/placement.h"
#include "layers/shared_statistics.h"

namespace sextant {

using kernels::ConvShape;

namespace {

ConvShape conv_shape(const char* name, const Shape& x, const Shape& w, ConvParams p) {
  check(x.rank() == 4, "{}: input {} is not [N,H,W,C]", name, x.str());
  check(w.rank() == 4, "{}: weight {} is not [O,kh,kw,I]", name, w.str());
  check(p.stride >= 1 && p.padding >= 0 && p.groups >= 1, "{}: stride {}, padding {}, groups {}",
        name, p.stride, p.padding, p.groups);
  check(w[3] * p.groups == x[3] && w[0] % p.groups == 0,
        "{}: weight {} has {} input channels, input {} has {} (groups {})", name, w.str(),
        w[3] * p.groups, x.str(), x[3], p.groups);
  const ConvShape s{x[0], x[1], x[2], x[3], w[0], w[1], w[2], p.stride, p.padding, p.groups};
  check(x[1] + 2 * p.padding >= w[1] && x[2] + 2 * p.padding >= w[2],
        "{}: kernel {}x{} is larger than the padded input {}", name, w[1], w[2], x.str());
  return s;
}

kernels::ConvForward convolution(const ConvShape& s, const Tensor& x, const Tensor& w,
                                 const Variable& bias, const Tensor& y) {
  return {.shape = s,
          .x = x.raw(),
          .w = w.raw(),
          .bias = bias.defined() ? bias.f32() : nullptr,
          .y = y.raw(),
          .dtype = y.dtype()};
}
kernels::ConvBackwardData data_gradient(const ConvShape& s, const Tensor& dy, const Tensor& w,
                                        const Tensor& dx, bool accumulate) {
  return {s, dy.raw(), w.raw(), dx.raw(), accumulate, dy.dtype()};
}
// db: undefined when not wanted.
kernels::ConvBackwardWeight weight_gradient(const ConvShape& s, const Tensor& x, const Tensor& dy,
                                            const Tensor& dw, const Tensor& db) {
  return {s, x.raw(), dy.raw(), dw.f32(), db.defined() ? db.f32() : nullptr, dy.dtype()};
}

Shape output_shape(const ConvShape& s) { return {s.n, s.oh(), s.ow(), s.oc}; }

void check_bias(const char* name, const Variable& bias, int64_t channels) {
  check(!bias.defined() || bias.shape() == Shape{channels}, "{}: bias {} for {} channels", name,
        bias.defined() ? bias.shape().str() : "", channels);
}

// Per-branch results of a forward pass that its backward needs.
struct SavedStatistics {
  std::vector<Tensor> mean, inv_std;
  Communicator* across = nullptr;
};

// act(sum of the normalized branches) -> y. `keeps`: a backward pass will follow.
SavedStatistics run_rep_bn_act(const std::vector<Tensor>& x,
                               const std::vector<BatchNormState>& norms, const Tensor& y,
                               Activation act, BatchNormParams params, bool keeps) {
  SavedStatistics saved;
  const int64_t channels = y.dim(-1);
  const int64_t rows = y.numel() / channels;
  Communicator* const across = params.training ? SharedStatistics::current() : nullptr;
  check(!params.training || across || rows >= 2,
        "rep_bn_act: training on shape {} has one value per channel, needs two", y.shape().str());
  kernels::RepBnActForward p;
  p.branches = static_cast<int>(x.size());
  p.y = y.raw();
  p.dtype = y.dtype();
  p.rows = rows;
  p.channels = channels;
  p.activation = act;
  p.eps = params.eps;
  p.momentum = params.momentum;
  p.training = params.training;
  p.across = saved.across = across;
  for (size_t b = 0; b < x.size(); ++b) {
    const BatchNormState& n = norms[b];
    check(x[b].shape() == y.shape(), "rep_bn_act: branches {} and {} differ", y.shape().str(),
          x[b].shape().str());
    check_together("rep_bn_act", y, x[b]);
    check_same_type("rep_bn_act", y, x[b]);
    for (const Tensor& t : {n.gamma.data(), n.beta.data(), n.running_mean, n.running_var}) {
      check(t.shape() == Shape{channels}, "rep_bn_act: parameter {} for {} channels",
            t.shape().str(), channels);
      check_together("rep_bn_act", y, t);
    }
    const bool kept = params.training || keeps;
    if (kept) {
      saved.mean.push_back(like(n.running_mean));
      saved.inv_std.push_back(like(n.running_mean));
    }
    p.branch[b] = {x[b].raw(),
                   n.gamma.f32(),
                   n.beta.f32(),
                   n.running_mean.f32(),
                   n.running_var.f32(),
                   kept ? saved.mean[b].f32() : nullptr,
                   kept ? saved.inv_std[b].f32() : nullptr};
  }
  on(y).rep_bn_act_forward(p);
  return saved;
}

struct BranchGradients {
  std::vector<Tensor> dx, dgamma, dbeta;
};

// What backward keeps of a rep_bn_act.
struct RepBnActSaved {
  std::vector<Tensor> x, gamma, beta;
  SavedStatistics statistics;
  Activation act;
  bool training;

  BranchGradients backward(const Tensor& dy, const std::vector<bool>& wants_dx) const {
    BranchGradients g;
    const int64_t channels = dy.dim(-1);
    kernels::RepBnActBackward p;
    p.branches = static_cast<int>(x.size());
    p.dy = dy.raw();
    p.dtype = dy.dtype();
    p.rows = dy.numel() / channels;
    p.channels = channels;
    p.activation = act;
    p.training = training;
    p.across = statistics.across;
    for (size_t b = 0; b < x.size(); ++b) {
      g.dx.push_back(wants_dx[b] ? like(dy) : Tensor());
      g.dgamma.push_back(like(gamma[b]));
      g.dbeta.push_back(like(gamma[b]));
      p.branch[b] = {x[b].raw(),
                     gamma[b].f32(),
                     beta[b].f32(),
                     statistics.mean[b].f32(),
                     statistics.inv_std[b].f32(),
                     wants_dx[b] ? g.dx[b].raw() : nullptr,
                     g.dgamma[b].f32(),
                     g.dbeta[b].f32()};
    }
    on(dy).rep_bn_act_backward(p);
    return g;
  }
};

RepBnActSaved save(std::vector<Tensor> x, const std::vector<BatchNormState>& norms,
                   SavedStatistics statistics, Activation act, bool training) {
  RepBnActSaved s{std::move(x), {}, {}, std::move(statistics), act, training};
  for (const auto& n : norms) {
    s.gamma.push_back(n.gamma.data());
    s.beta.push_back(n.beta.data());
  }
  return s;
}

void record_conv(const Variable& x, const Variable& w, const Variable& b, const Variable& y,
                 ConvParams p) {
  trace::record({"conv2d",
                 {x, w, b},
                 y,
                 {{"stride", p.stride}, {"padding", p.padding}, {"groups", p.groups}}});
}

void record_rep_bn_act(const std::vector<Variable>& branches,
                       const std::vector<BatchNormState>& norms, const Variable& y, Activation act,
                       BatchNormParams params) {
  std::vector<Variable> inputs = branches;
  for (const auto& n : norms) {
    inputs.push_back(n.gamma);
    inputs.push_back(n.beta);
    inputs.emplace_back(n.running_mean);
    inputs.emplace_back(n.running_var);
  }
  trace::record({"rep_bn_act", inputs, y, {{"eps", params.eps}, {"activation", name_of(act)}}});
}

std::vector<Variable> parameters_of(const std::vector<BatchNormState>& norms) {
  std::vector<Variable> out;
  for (const auto& n : norms) {
    out.push_back(n.gamma);
    out.push_back(n.beta);
  }
  return out;
}

}  // namespace

Variable conv2d(const Variable& input, const Variable& weight, const Variable& bias,
                ConvParams params) {
  const ConvShape s = conv_shape("conv2d", input.shape(), weight.shape(), params);
  check_bias("conv2d", bias, s.oc);
  const kernels::Backend& backend = kernels_for("conv2d", input, weight, bias);
  const Variable x = as_operand(input);
  const Tensor w = weight_as(weight, x.data().dtype()), y = like(x.data(), output_shape(s));
  backend.conv_forward(convolution(s, x.data(), w, bias, y));
  Variable out =
      make_result("conv2d", y, {x, weight, bias},
                  [s, xt = x.data(), w](const Tensor& dy, const std::vector<bool>& needs) {
                    Tensor dx, dw, db;
                    if (needs[0]) {
                      dx = like(xt);
                      on(dy).conv_backward_data(data_gradient(s, dy, w, dx, false));
                    }
                    if (needs[1] || needs[2]) {
                      dw = f32_like(w, w.shape());
                      if (needs[2]) db = f32_like(w, Shape{s.oc});
                      on(dy).conv_backward_weight(weight_gradient(s, xt, dy, dw, db));
                    }
                    return std::vector<Tensor>{dx, dw, db};
                  });
  if (trace::active()) record_conv(input, weight, bias, out, params);
  return out;
}

Variable conv_transpose2d(const Variable& input, const Variable& weight, const Variable& bias) {
  const Shape &xs = input.shape(), &ws = weight.shape();
  check(xs.rank() == 4 && ws.rank() == 4 && ws[1] == ws[2],
        "conv_transpose2d: input {}, weight {} (needs [N,H,W,I] and [O,k,k,I])", xs.str(),
        ws.str());
  check(xs[3] == ws[3], "conv_transpose2d: weight {} has {} input channels, input {} has {}",
        ws.str(), ws[3], xs.str(), xs[3]);
  check_bias("conv_transpose2d", bias, ws[0]);
  const kernels::Backend& backend = kernels_for("conv_transpose2d", input, weight, bias);
  const kernels::ConvTransposeShape s{xs[0], xs[1], xs[2], xs[3], ws[0], ws[1]};
  const Variable x = as_operand(input);
  const Tensor w = weight_as(weight, x.data().dtype());
  const Tensor y = like(x.data(), Shape{s.n, s.h * s.k, s.w * s.k, s.oc});
  backend.conv_transpose_forward(
      {s, x.data().raw(), w.raw(), bias.defined() ? bias.f32() : nullptr, y.raw(), y.dtype()});
  Variable out =
      make_result("conv_transpose2d", y, {x, weight, bias},
                  [s, xt = x.data(), w](const Tensor& dy, const std::vector<bool>& needs) {
                    Tensor dx, dw, db;
                    if (needs[0]) dx = like(xt);
                    if (needs[1]) dw = f32_like(w, w.shape());
                    if (needs[2]) db = f32_like(w, Shape{s.oc});
                    on(dy).conv_transpose_backward(
                        {s, xt.raw(), w.raw(), dy.raw(), needs[0] ? dx.raw() : nullptr,
                         needs[1] ? dw.f32() : nullptr, needs[2] ? db.f32() : nullptr, dy.dtype()});
                    return std::vector<Tensor>{dx, dw, db};
                  });
  if (trace::active())
    trace::record({"conv_transpose2d", {input, weight, bias}, out, {{"stride", s.k}}});
  return out;
}

Variable rep_bn_act(const std::vector<Variable>& branches, const std::vector<BatchNormState>& norms,
                    Activation act, BatchNormParams params) {
  check(!branches.empty() && branches.size() <= kernels::kMaxBranches &&
            branches.size() == norms.size(),
        "rep_bn_act: {} branches with {} batch-norms (1 to {} of each)", branches.size(),
        norms.size(), kernels::kMaxBranches);
  std::vector<Tensor> x;
  for (const auto& v : branches) x.push_back(v.data());
  std::vector<Variable> inputs = branches;
  for (auto& v : parameters_of(norms)) inputs.push_back(v);
  const Tensor y = like(x[0]);
  SavedStatistics statistics = run_rep_bn_act(x, norms, y, act, params, needs_grad(inputs));
  Variable out = make_result("rep_bn_act", y, inputs,
                             [saved = save(x, norms, std::move(statistics), act, params.training)](
                                 const Tensor& dy, const std::vector<bool>& needs) {
                               const size_t k = saved.x.size();
                               BranchGradients g = saved.backward(
                                   dy, {needs.begin(), needs.begin() + static_cast<long>(k)});
                               std::vector<Tensor> grads = std::move(g.dx);
                               for (size_t b = 0; b < k; ++b) {
                                 grads.push_back(g.dgamma[b]);
                                 grads.push_back(g.dbeta[b]);
                               }
                               return grads;
                             });
  if (trace::active()) record_rep_bn_act(branches, norms, out, act, params);
  return out;
}

Variable rep_vgg(const Variable& input, const Variable& weight3, const Variable& weight1,
                 const std::vector<BatchNormState>& norms, int64_t stride, Activation act,
                 BatchNormParams params) {
  const int64_t groups = input.dim(-1) / std::max<int64_t>(weight3.dim(-1), 1);
  const ConvParams p3{stride, 1, groups}, p1{stride, 0, groups};
  const bool identity = norms.size() == 3;
  check(norms.size() == 2 || identity, "rep_vgg: {} batch-norms, needs 2 or 3", norms.size());
  if (trace::active()) {
    std::vector<Variable> branches{conv2d(input, weight3, {}, p3), conv2d(input, weight1, {}, p1)};
    if (identity) branches.push_back(input);
    return rep_bn_act(branches, norms, act, params);
  }
  const ConvShape s3 = conv_shape("rep_vgg", input.shape(), weight3.shape(), p3);
  const ConvShape s1 = conv_shape("rep_vgg", input.shape(), weight1.shape(), p1);
  check(s1.kh == 1 && s3.kh == 3 && s1.oc == s3.oc, "rep_vgg: weights {} and {}",
        weight3.shape().str(), weight1.shape().str());
  const kernels::Backend& backend = kernels_for("rep_vgg", input, weight3, weight1);
  const Variable x = as_operand(input);
  std::vector<Variable> inputs{x, weight3, weight1};
  for (auto& v : parameters_of(norms)) inputs.push_back(v);
  const DType type = x.data().dtype();
  const Tensor w3 = weight_as(weight3, type), w1 = weight_as(weight1, type);
  std::vector<Tensor> branches{like(x.data(), output_shape(s3)), like(x.data(), output_shape(s1))};
  backend.conv_forward(convolution(s3, x.data(), w3, {}, branches[0]));
  backend.conv_forward(convolution(s1, x.data(), w1, {}, branches[1]));
  if (identity) branches.push_back(x.data());
  const Tensor y = like(branches[0]);
  SavedStatistics statistics = run_rep_bn_act(branches, norms, y, act, params, needs_grad(inputs));
  return make_result("rep_vgg", y, inputs,
                     [s3, s1, xt = x.data(), w3, w1, identity,
                      saved = save(branches, norms, std::move(statistics), act, params.training)](
                         const Tensor& dy, const std::vector<bool>& needs) {
                       BranchGradients g = saved.backward(dy, {true, true, identity && needs[0]});
                       const kernels::Backend& there = on(dy);
                       Tensor dx, dw3 = f32_like(w3, w3.shape()), dw1 = f32_like(w1, w1.shape());
                       if (needs[0]) {
                         dx = identity ? g.dx[2] : like(xt);
                         there.conv_backward_data(data_gradient(s3, g.dx[0], w3, dx, identity));
                         there.conv_backward_data(data_gradient(s1, g.dx[1], w1, dx, true));
                       }
                       there.conv_backward_weight(weight_gradient(s3, xt, g.dx[0], dw3, {}));
                       there.conv_backward_weight(weight_gradient(s1, xt, g.dx[1], dw1, {}));
                       std::vector<Tensor> grads{dx, dw3, dw1};
                       for (size_t b = 0; b < g.dgamma.size(); ++b) {
                         grads.push_back(g.dgamma[b]);
                         grads.push_back(g.dbeta[b]);
                       }
                       return grads;
                     });
}

}  // namespace sextant
