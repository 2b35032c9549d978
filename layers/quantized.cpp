// SPDX-License-Identifier: Apache-2.0
#include "layers/quantized.h"

#include <cmath>

#include "layers/placement.h"

namespace sextant {

namespace {

void check_range(const char* name, const QuantRange& r) {
  check(r.amax.defined() && r.amax.shape() == Shape{1} && r.value() > 0,
        "{}: a range needs an amax [1] above 0", name);
}

// LSQ's factor on a step's gradient.
double lsq_factor(int64_t values, float highest) {
  return 1.0 / std::sqrt(static_cast<double>(values) * static_cast<double>(highest));
}

// Memory on `like`'s device for sums that a kernel writes; undefined unless wanted.
Tensor scale_sums(bool wanted, int64_t n, const Tensor& like) {
  return wanted ? Tensor(Shape{n}, DType::kF64, like.device()) : Tensor();
}
double* sums_of(const Tensor& t) { return t.defined() ? t.data<double>() : nullptr; }

// Sums as f32, times a factor.
Tensor scaled_sums(const Tensor& sums, double factor) {
  const Tensor y = f32_like(sums, sums.shape());
  on(y).cast({sums.raw(), DType::kF64, y.raw(), DType::kF32, y.numel()});
  on(y).add_scaled({y.f32(), y.f32(), y.f32(), y.numel(), static_cast<float>(factor), 0.0f});
  return y;
}

// The gradient of an amax from that of its step [1], for a result of `shape` [N,...]; undefined if
// the step's is.
Tensor amax_gradient(const Tensor& dstep, const QuantRange& range, const Shape& shape) {
  if (!dstep.defined()) return {};
  const double g = lsq_factor(shape.numel() / shape[0], range.high());
  return scaled_sums(dstep, g * static_cast<double>(range.high()));
}

// q [channels, inner] times the scale of each channel.
Tensor scaled_rows(const Tensor& q, const Tensor& scale) {
  const Tensor y(q.shape(), DType::kF32, q.device());
  on(q).dequantize({q.f32(), scale.f32(), scale.numel(), q.numel() / scale.numel(), y.f32()});
  return y;
}

kernels::Quantize quantize_form(const Tensor& x, const Tensor& scale, const QuantRange& range) {
  return {.x = x.f32(),
          .scale = scale.f32(),
          .inner = x.numel(),
          .low = range.low(),
          .high = range.high()};
}

Tensor scale_of(const QuantRange& range, Device device) {
  return Tensor::full(Shape{1}, range.scale(), device);
}

}  // namespace

Variable quantize(const Variable& x, const QuantRange& range) {
  check_range("quantize", range);
  const Tensor scale = scale_of(range, x.data().device());
  const Tensor q(x.shape(), DType::kF32, x.data().device());
  on(q).quantize_forward({quantize_form(x.data(), scale, range), q.f32()});
  return make_result(
      "quantize", q, {x, range.amax},
      [xt = x.data(), range, scale](const Tensor& dy, const std::vector<bool>& needs) {
        const Tensor dx = needs[0] ? Tensor(xt.shape(), DType::kF32, xt.device()) : Tensor();
        const Tensor dstep = scale_sums(needs[1], 1, xt);
        on(xt).quantize_backward({quantize_form(xt, scale, range), dy.f32(),
                                  needs[0] ? dx.f32() : nullptr, sums_of(dstep)});
        return std::vector<Tensor>{dx, amax_gradient(dstep, range, xt.shape())};
      });
}

Variable dequantize(const Variable& q, const QuantRange& range) {
  check_range("dequantize", range);
  // With respect to the value it is the identity.
  return make_result(
      "dequantize", scaled_rows(q.data(), scale_of(range, q.data().device())), {q},
      [](const Tensor& dy, const std::vector<bool>&) { return std::vector<Tensor>{dy}; });
}

Variable quantized_add(const Variable& a, const Variable& b, float factor,
                       const QuantRange& range) {
  check_range("quantized_add", range);
  check(a.shape() == b.shape(), "quantized_add: shapes {} and {}", a.shape().str(),
        b.shape().str());
  // In units of the step: the sum is a + factor * b, rounded and saturated.
  const int64_t channels = a.dim(-1);
  const Device device = a.data().device();
  const Tensor zeros = Tensor::zeros(Shape{channels}, DType::kF32, device),
               ones = Tensor::full(Shape{channels}, 1.0f, device);
  kernels::Requantize form;
  form.sums = a.f32();
  form.bias = zeros.f32();
  form.factor = ones.f32();
  form.residual = b.f32();
  form.rows = a.data().numel() / channels;
  form.channels = channels;
  form.epilogue.residual_scale = factor;
  form.low = range.low();
  form.high = range.high();
  const Tensor y(a.shape(), DType::kF32, device);
  on(y).requantize_forward({form, y.f32()});
  return make_result(
      "quantized_add", y, {a, b, range.amax},
      [form, at = a.data(), bt = b.data(), zeros, ones, factor, range](
          const Tensor& dy, const std::vector<bool>& needs) {
        const Tensor da(at.shape(), DType::kF32, at.device()),
            db(at.shape(), DType::kF32, at.device()), dstep = scale_sums(needs[2], 1, at);
        on(at).requantize_backward({form, factor, dy.f32(), da.f32(), db.f32(), sums_of(dstep)});
        return std::vector<Tensor>{da, db, amax_gradient(dstep, range, at.shape())};
      });
}

namespace {

kernels::ConvShape conv_shape(const Shape& x, const Shape& w, const ConvParams& p) {
  return {x[0], x[1], x[2], x[3], w[0], w[1], w[2], p.stride, p.padding, p.groups};
}
kernels::ConvTransposeShape transposed_shape(const Shape& x, const Shape& w) {
  return {x[0], x[1], x[2], x[3], w[0], w[1]};
}

void check_shapes(const Shape& x, const QuantizedConv& c) {
  const Shape& w = c.weight.shape();
  check(x.rank() == 4 && w.rank() == 4 && w[3] * c.params.groups == x[3] &&
            w[0] % c.params.groups == 0,
        "quantized_conv: weight {} in {} groups, input {}", w.str(), c.params.groups, x.str());
  check(
      c.weight_scale.shape() == Shape{w[0]} && (!c.bias.defined() || c.bias.shape() == Shape{w[0]}),
      "quantized_conv: scales {} and bias {} for {} channels", c.weight_scale.shape().str(),
      c.bias.defined() ? c.bias.shape().str() : "", w[0]);
  check(!c.gain.defined() || c.gain.shape() == Shape{w[0]},
        "quantized_conv: gains {} for {} channels", c.gain.defined() ? c.gain.shape().str() : "",
        w[0]);
  check(
      !c.transposed || (w[1] == w[2] && c.params.groups == 1 && !c.residual.defined()),
      "quantized_conv: a transposed convolution needs a square kernel, one group and no residual");
  const int64_t border = 2 * c.params.padding;
  check(c.transposed || (x[1] + border >= w[1] && x[2] + border >= w[2]),
        "quantized_conv: kernel {} on input {}", w.str(), x.str());
}

// Everything that both passes need.
class Operation {
 public:
  Operation(const Variable& x, const QuantizedConv& c)
      : c_(c),
        x_(x.data()),
        // The caller may change its scales in place before backward runs.
        weight_scale_(c.weight_scale.data().clone()),
        source_scale_(c.source.scale()),
        levels_(c.weight.shape(), DType::kF32, x.data().device()) {
    // Data only: a node must not keep earlier nodes alive.
    if (c.residual.defined()) c_.residual = c.residual.detach();
    const int64_t channels = c.weight.dim(0);
    const kernels::ConvScales scales{.source = source_scale_,
                                     .destination = c.destination ? c.destination->scale() : 1.0f,
                                     .weight = weight_scale_.f32(),
                                     .bias = c.bias.defined() ? c.bias.f32() : nullptr,
                                     .channels = channels,
                                     .epilogue = c.epilogue};
    bias_ = tensor(Shape{channels});
    factor_ = tensor(Shape{channels});
    on(x_).fold_scales({scales, bias_.f32(), factor_.f32()});
    form_.channels = channels;
    form_.epilogue = kernels::folded_epilogue(scales);
    form_.bias = bias_.f32();
    form_.factor = factor_.f32();
    form_.gain = c.gain.defined() ? c.gain.f32() : nullptr;
    form_.round = c.destination.has_value();
    if (form_.round) {
      form_.low = c.destination->low();
      form_.high = c.destination->high();
    }
  }

  Tensor forward() {
    const Shape &xs = x_.shape(), &ws = levels_.shape();
    on(x_).quantize_forward({weight_form(), levels_.f32()});
    if (c_.transposed) {
      sums_ = tensor(Shape{xs[0], xs[1] * ws[1], xs[2] * ws[1], ws[0]});
      on(x_).conv_transpose_forward(
          {transposed_shape(xs, ws), x_.f32(), levels_.f32(), nullptr, sums_.f32()});
    } else {
      const kernels::ConvShape s = conv_shape(xs, ws, c_.params);
      sums_ = tensor(Shape{s.n, s.oh(), s.ow(), s.oc});
      const kernels::cpu::ExactSums exact;  // integers, like the int8 engine's
      on(x_).conv_forward({s, x_.f32(), levels_.f32(), nullptr, sums_.f32()});
    }
    form_.sums = sums_.f32();
    form_.rows = sums_.numel() / form_.channels;
    if (c_.residual.defined()) {
      check(c_.residual.shape() == sums_.shape(), "quantized_conv: residual {} for a result {}",
            c_.residual.shape().str(), sums_.shape().str());
      form_.residual = c_.residual.f32();
    }
    const Tensor y = tensor(sums_.shape());
    on(x_).requantize_forward({form_, y.f32()});
    return y;
  }

  // Gradients of x, weight, weight_scale, bias, residual and the destination's amax.
  std::vector<Tensor> backward(const Tensor& dy, const std::vector<bool>& needs) const {
    const Tensor dv = tensor(sums_.shape()), dstep = scale_sums(needs[5], 1, x_);
    Tensor dresidual;
    if (needs[4]) dresidual = tensor(sums_.shape());
    on(x_).requantize_backward({form_, c_.epilogue.residual_scale, dy.f32(), dv.f32(),
                                needs[4] ? dresidual.f32() : nullptr, sums_of(dstep)});
    Tensor dx, dw, db;
    convolve_back(dv, needs, dx, dw, db);
    Tensor dscale;
    if (needs[1] || needs[2]) {
      // x holds integers, so its step is still missing.
      on(x_).add_scaled({dw.f32(), dw.f32(), dw.f32(), dw.numel(), source_scale_, 0.0f});
      const Tensor steps = scale_sums(needs[2], form_.channels, x_);
      on(x_).quantize_backward({weight_form(), dw.f32(), dw.f32(), sums_of(steps)});
      if (needs[2]) dscale = scaled_sums(steps, lsq_factor(dw.numel() / form_.channels, 127.0f));
    }
    return {dx,        needs[1] ? dw : Tensor(),
            dscale,    db,
            dresidual, needs[5] ? amax_gradient(dstep, *c_.destination, sums_.shape()) : Tensor()};
  }

 private:
  Tensor tensor(const Shape& shape) const { return f32_like(x_, shape); }

  kernels::Quantize weight_form() const {
    return {.x = c_.weight.f32(),
            .scale = weight_scale_.f32(),
            .channels = form_.channels,
            .inner = levels_.numel() / form_.channels,
            .by_inverse = true};
  }

  void convolve_back(const Tensor& dv, const std::vector<bool>& needs, Tensor& dx, Tensor& dw,
                     Tensor& db) const {
    const bool wants_weight = needs[1] || needs[2] || needs[3];
    if (needs[0]) dx = tensor(x_.shape());
    if (wants_weight) dw = tensor(levels_.shape());
    if (needs[3]) db = tensor(Shape{form_.channels});
    const Tensor weight = needs[0] ? scaled_rows(levels_, weight_scale_) : levels_;
    if (c_.transposed) {
      on(x_).conv_transpose_backward({transposed_shape(x_.shape(), levels_.shape()), x_.f32(),
                                      weight.f32(), dv.f32(), needs[0] ? dx.f32() : nullptr,
                                      wants_weight ? dw.f32() : nullptr,
                                      needs[3] ? db.f32() : nullptr});
      return;
    }
    const kernels::ConvShape s = conv_shape(x_.shape(), levels_.shape(), c_.params);
    if (needs[0]) on(x_).conv_backward_data({s, dv.f32(), weight.f32(), dx.f32()});
    if (wants_weight)
      on(x_).conv_backward_weight({s, x_.f32(), dv.f32(), dw.f32(), needs[3] ? db.f32() : nullptr});
  }

  QuantizedConv c_;
  Tensor x_, weight_scale_;
  float source_scale_;
  Tensor levels_, bias_, factor_, sums_;
  kernels::Requantize form_;
};

}  // namespace

Variable quantized_conv(const Variable& x, const QuantizedConv& conv) {
  check_range("quantized_conv", conv.source);
  if (conv.destination) check_range("quantized_conv", *conv.destination);
  check_shapes(x.shape(), conv);
  kernels_for("quantized_conv", x, conv.weight, conv.weight_scale, conv.bias, conv.residual);
  const auto operation = std::make_shared<Operation>(x, conv);
  const Tensor y = operation->forward();
  const Variable amax = conv.destination ? conv.destination->amax : Variable();
  return make_result("quantized_conv", y,
                     {x, conv.weight, conv.weight_scale, conv.bias, conv.residual, amax},
                     [operation](const Tensor& dy, const std::vector<bool>& needs) {
                       return operation->backward(dy, needs);
                     });
}

}  // namespace sextant
