#include "layers/quantized.h"

#include <cmath>

#include "kernels/conv.h"
#include "kernels/elementwise.h"
#include "kernels/requantize.h"

namespace sextant {

namespace cpu = kernels::cpu;

namespace {

void check_host(const char* name, const Variable& x) {
  check(x.data().device() == Device::kCpu, "{}: input on {}, expected cpu", name,
        name_of(x.data().device()));
}

void check_range(const char* name, const QuantRange& r) {
  check_host(name, r.amax);
  check(r.amax.defined() && r.amax.shape() == Shape{1} && r.amax.f32()[0] > 0,
        "{}: a range needs an amax [1] above 0", name);
}

// LSQ's factor on a step's gradient.
double lsq_factor(int64_t values, float highest) {
  return 1.0 / std::sqrt(static_cast<double>(values) * static_cast<double>(highest));
}

// The gradient of an amax from that of its step, for a result of `shape` [N,...].
Tensor amax_gradient(double dstep, const QuantRange& range, const Shape& shape) {
  const double g = lsq_factor(shape.numel() / shape[0], range.high());
  return Tensor::full(Shape{1}, static_cast<float>(dstep * g * static_cast<double>(range.high())));
}

// x with each of the rows [channels, inner] times its factor.
Tensor scaled_rows(const Tensor& x, const Tensor& factor) {
  const Tensor y(x.shape());
  const int64_t inner = x.numel() / factor.numel();
  const float* from = x.f32();
  float* to = y.f32();
  for (int64_t c = 0; c < factor.numel(); ++c) {
    const float f = factor.f32()[c];
    for (int64_t i = c * inner; i < (c + 1) * inner; ++i) to[i] = from[i] * f;
  }
  return y;
}

Tensor scaled(const Tensor& x, float factor) {
  const Tensor y(x.shape());
  cpu::add_scaled({x.f32(), x.f32(), y.f32(), y.numel(), factor, 0.0f});
  return y;
}

kernels::Quantize quantize_form(const Tensor& x, const float* scale, const QuantRange& range) {
  return {
      .x = x.f32(), .scale = scale, .inner = x.numel(), .low = range.low(), .high = range.high()};
}

}  // namespace

Variable quantize(const Variable& x, const QuantRange& range) {
  check_host("quantize", x);
  check_range("quantize", range);
  const float scale = range.scale();
  const Tensor q(x.shape());
  cpu::quantize_forward({quantize_form(x.data(), &scale, range), q.f32()});
  return make_result(
      "quantize", q, {x, range.amax},
      [xt = x.data(), range, scale](const Tensor& dy, const std::vector<bool>& needs) {
        double dstep = 0;
        const Tensor dx = needs[0] ? Tensor(xt.shape()) : Tensor();
        cpu::quantize_backward({quantize_form(xt, &scale, range), dy.f32(),
                                needs[0] ? dx.f32() : nullptr, needs[1] ? &dstep : nullptr});
        return std::vector<Tensor>{dx,
                                   needs[1] ? amax_gradient(dstep, range, xt.shape()) : Tensor()};
      });
}

Variable dequantize(const Variable& q, const QuantRange& range) {
  check_host("dequantize", q);
  check_range("dequantize", range);
  // By value it is the identity.
  return make_result(
      "dequantize", scaled(q.data(), range.scale()), {q},
      [](const Tensor& dy, const std::vector<bool>&) { return std::vector<Tensor>{dy}; });
}

Variable quantized_add(const Variable& a, const Variable& b, float factor,
                       const QuantRange& range) {
  check_range("quantized_add", range);
  for (const Variable& v : {a, b}) check_host("quantized_add", v);
  check(a.shape() == b.shape(), "quantized_add: shapes {} and {}", a.shape().str(),
        b.shape().str());
  // In units of the step: the sum is a + factor * b, rounded and saturated.
  const int64_t channels = a.dim(-1);
  const Tensor zeros = Tensor::zeros(Shape{channels}), ones = Tensor::full(Shape{channels}, 1.0f);
  kernels::Requantize form;
  form.sums = a.f32();
  form.bias = zeros.f32();
  form.factor = ones.f32();
  form.residual = b.f32();
  form.rows = a.data().numel() / channels;
  form.channels = channels;
  form.residual_scale = factor;
  form.low = range.low();
  form.high = range.high();
  const Tensor y(a.shape());
  cpu::requantize_forward({form, y.f32()});
  return make_result("quantized_add", y, {a, b, range.amax},
                     [form, at = a.data(), bt = b.data(), zeros, ones, factor, range](
                         const Tensor& dy, const std::vector<bool>& needs) {
                       const Tensor da(at.shape()), db(at.shape());
                       double dstep = 0;
                       cpu::requantize_backward({form, factor, dy.f32(), da.f32(), db.f32(),
                                                 needs[2] ? &dstep : nullptr});
                       return std::vector<Tensor>{
                           da, db, needs[2] ? amax_gradient(dstep, range, at.shape()) : Tensor()};
                     });
}

namespace {

// act(a v) = a act(v) for a > 0: the step of the result can go into the factor before it.
bool homogeneous(Activation a) {
  return a == Activation::kIdentity || a == Activation::kReLU || a == Activation::kLeakyReLU;
}

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
  check(!c.transposed || (w[1] == w[2] && c.params.groups == 1 && !c.residual.defined()),
        "quantized_conv: a transposed one has a square kernel, one group and no residual");
}

// Everything that both passes need; the numbers are those of deploy/conv_step.cpp.
class Operation {
 public:
  Operation(const Variable& x, const QuantizedConv& c)
      : c_(c),
        x_(x.data()),
        // The caller may change its scales in place before backward runs.
        weight_scale_(c.weight_scale.data().clone()),
        source_scale_(c.source.scale()),
        levels_(c.weight.shape()) {
    // Data only: a node does not hold on to the nodes before it.
    if (c.residual.defined()) c_.residual = c.residual.detach();
    const int64_t channels = c.weight.dim(0);
    const bool fold = homogeneous(c.act);
    const float step = c.destination ? c.destination->scale() : 1.0f;
    bias_ = Tensor(Shape{channels});
    factor_ = Tensor(Shape{channels});
    for (int64_t o = 0; o < channels; ++o) {
      const double s = static_cast<double>(source_scale_) * weight_scale_.f32()[o];
      const double b = c.bias.defined() ? c.bias.f32()[o] : 0.0;
      bias_.f32()[o] = static_cast<float>(b / s);
      factor_.f32()[o] = static_cast<float>(fold ? s / step : s);
    }
    form_.bias = bias_.f32();
    form_.factor = factor_.f32();
    form_.channels = channels;
    form_.act = c.act;
    form_.act_scale = fold ? 1.0f : 1.0f / step;
    form_.residual_before_act = c.residual_before_act;
    form_.residual_scale = c.residual_scale;
    if (!fold && c.residual_before_act) form_.residual_scale *= step;
    form_.round = c.destination.has_value();
    if (form_.round) {
      form_.low = c.destination->low();
      form_.high = c.destination->high();
    }
  }

  Tensor forward() {
    const Shape &xs = x_.shape(), &ws = levels_.shape();
    cpu::quantize_forward({weight_form(), levels_.f32()});
    if (c_.transposed) {
      sums_ = Tensor(Shape{xs[0], xs[1] * ws[1], xs[2] * ws[1], ws[0]});
      cpu::conv_transpose_forward(
          {transposed_shape(xs, ws), x_.f32(), levels_.f32(), nullptr, sums_.f32()});
    } else {
      const kernels::ConvShape s = conv_shape(xs, ws, c_.params);
      check(s.oh() >= 1 && s.ow() >= 1, "quantized_conv: kernel {} on input {}", ws.str(),
            xs.str());
      sums_ = Tensor(Shape{s.n, s.oh(), s.ow(), s.oc});
      cpu::conv_forward({s, x_.f32(), levels_.f32(), nullptr, sums_.f32()});
    }
    form_.sums = sums_.f32();
    form_.rows = sums_.numel() / form_.channels;
    if (c_.residual.defined()) {
      check(c_.residual.shape() == sums_.shape(), "quantized_conv: residual {} for a result {}",
            c_.residual.shape().str(), sums_.shape().str());
      form_.residual = c_.residual.f32();
    }
    const Tensor y(sums_.shape());
    cpu::requantize_forward({form_, y.f32()});
    return y;
  }

  // Gradients of x, weight, weight_scale, bias, residual and the destination's amax.
  std::vector<Tensor> backward(const Tensor& dy, const std::vector<bool>& needs) const {
    const Tensor dv(sums_.shape());
    Tensor dresidual;
    if (needs[4]) dresidual = Tensor(sums_.shape());
    double dstep = 0;
    cpu::requantize_backward({form_, c_.residual_scale, dy.f32(), dv.f32(),
                              needs[4] ? dresidual.f32() : nullptr, needs[5] ? &dstep : nullptr});
    Tensor dx, dw, db;
    convolve_back(dv, needs, dx, dw, db);
    Tensor dscale;
    if (needs[1] || needs[2]) {
      // x holds integers, so its step is still missing.
      cpu::add_scaled({dw.f32(), dw.f32(), dw.f32(), dw.numel(), source_scale_, 0.0f});
      std::vector<double> steps(static_cast<size_t>(form_.channels));
      cpu::quantize_backward(
          {weight_form(), dw.f32(), dw.f32(), needs[2] ? steps.data() : nullptr});
      if (needs[2]) {
        const double g = lsq_factor(dw.numel() / form_.channels, 127.0f);
        dscale = Tensor(Shape{form_.channels});
        for (int64_t o = 0; o < form_.channels; ++o)
          dscale.f32()[o] = static_cast<float>(steps[static_cast<size_t>(o)] * g);
      }
    }
    return {dx,        needs[1] ? dw : Tensor(),
            dscale,    db,
            dresidual, needs[5] ? amax_gradient(dstep, *c_.destination, sums_.shape()) : Tensor()};
  }

 private:
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
    if (needs[0]) dx = Tensor(x_.shape());
    if (wants_weight) dw = Tensor(levels_.shape());
    if (needs[3]) db = Tensor(Shape{form_.channels});
    const Tensor weight = needs[0] ? scaled_rows(levels_, weight_scale_) : levels_;
    if (c_.transposed) {
      cpu::conv_transpose_backward({transposed_shape(x_.shape(), levels_.shape()), x_.f32(),
                                    weight.f32(), dv.f32(), needs[0] ? dx.f32() : nullptr,
                                    wants_weight ? dw.f32() : nullptr,
                                    needs[3] ? db.f32() : nullptr});
      return;
    }
    const kernels::ConvShape s = conv_shape(x_.shape(), levels_.shape(), c_.params);
    if (needs[0]) cpu::conv_backward_data({s, dv.f32(), weight.f32(), dx.f32()});
    if (wants_weight)
      cpu::conv_backward_weight({s, x_.f32(), dv.f32(), dw.f32(), needs[3] ? db.f32() : nullptr});
  }

  QuantizedConv c_;
  Tensor x_, weight_scale_;
  float source_scale_;
  Tensor levels_, bias_, factor_, sums_;
  kernels::Requantize form_;
};

}  // namespace

Variable quantized_conv(const Variable& x, const QuantizedConv& conv) {
  for (const Variable& v : {x, conv.weight, conv.weight_scale, conv.bias, conv.residual})
    check_host("quantized_conv", v);
  check_range("quantized_conv", conv.source);
  if (conv.destination) check_range("quantized_conv", *conv.destination);
  check_shapes(x.shape(), conv);
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
