#include "layers/functional.h"

#include "core/trace.h"
#include "kernels/branch_sum.h"
#include "kernels/elementwise.h"
#include "kernels/fake_quant.h"
#include "kernels/pool.h"

namespace sextant {

namespace cpu = kernels::cpu;

Variable activation(const Variable& x, Activation act) {
  Tensor y(x.shape());
  cpu::act_forward({x.f32(), y.f32(), y.numel(), act});
  Variable out = make_result(
      "activation", y, {x}, [saved = x.data(), act](const Tensor& dy, const std::vector<bool>&) {
        Tensor dx(saved.shape());
        cpu::act_backward({saved.f32(), dy.f32(), dx.f32(), dx.numel(), act});
        return std::vector<Tensor>{dx};
      });
  if (trace::active()) trace::record({"activation", {x}, out, {{"act", name_of(act)}}});
  return out;
}

Variable max_pool2d(const Variable& x, PoolParams params) {
  const Shape& s = x.shape();
  check(s.rank() == 4, "max_pool2d: input {} is not [N,H,W,C]", s.str());
  check(params.kernel >= 1 && params.stride >= 1 && params.padding >= 0 &&
            2 * params.padding <= params.kernel,
        "max_pool2d: kernel {}, stride {}, padding {}", params.kernel, params.stride,
        params.padding);
  kernels::MaxPoolForward p{s[0], s[1], s[2], s[3], params.kernel, params.stride, params.padding};
  check(p.oh() >= 1 && p.ow() >= 1, "max_pool2d: kernel {} on input {}", params.kernel, s.str());
  const Tensor y(Shape{s[0], p.oh(), p.ow(), s[3]});
  const Tensor index = needs_grad({x}) ? Tensor(y.shape(), DType::kI32) : Tensor();
  p.x = x.f32();
  p.y = y.f32();
  p.index = index.defined() ? index.data<int32_t>() : nullptr;
  cpu::max_pool_forward(p);
  Variable out = make_result(
      "max_pool2d", y, {x}, [index, s, params](const Tensor& dy, const std::vector<bool>&) {
        const Tensor dx(s);
        cpu::max_pool_backward({s[0], s[1], s[2], s[3], dy.dim(1), dy.dim(2), dy.f32(),
                                index.data<int32_t>(), dx.f32(), params.kernel, params.stride,
                                params.padding});
        return std::vector<Tensor>{dx};
      });
  if (trace::active())
    trace::record(
        {"max_pool2d",
         {x},
         out,
         {{"kernel", params.kernel}, {"stride", params.stride}, {"padding", params.padding}}});
  return out;
}

Variable average_pool2d(const Variable& x, int64_t kernel) {
  const Shape s = x.shape();
  check(s.rank() == 4 && kernel >= 1 && kernel % 2 == 1, "average_pool2d: kernel {} on input {}",
        kernel, s.str());
  if (trace::active()) {
    const float weight = 1.0f / static_cast<float>(kernel * kernel);
    return conv2d(x, Variable(Tensor::full(Shape{s[3], kernel, kernel, 1}, weight)), {},
                  {1, kernel / 2, s[3]});
  }
  const auto pooled = [s, kernel](const Tensor& t) {
    const Tensor y(s);
    cpu::average_pool({s[0], s[1], s[2], s[3], kernel, t.f32(), y.f32()});
    return y;
  };
  return make_result("average_pool2d", pooled(x.data()), {x},
                     [pooled](const Tensor& dy, const std::vector<bool>&) {
                       return std::vector<Tensor>{pooled(dy)};
                     });
}

Variable upsample_nearest(const Variable& x, int64_t factor) {
  const Shape s = x.shape();
  check(s.rank() == 4 && factor >= 1, "upsample_nearest: input {}, scale {}", s.str(), factor);
  const Tensor y(Shape{s[0], s[1] * factor, s[2] * factor, s[3]});
  cpu::upsample_forward({s[0], s[1], s[2], s[3], factor, x.f32(), y.f32()});
  Variable out = make_result(
      "upsample_nearest", y, {x}, [s, factor](const Tensor& dy, const std::vector<bool>&) {
        const Tensor dx(s);
        cpu::upsample_backward({s[0], s[1], s[2], s[3], factor, dy.f32(), dx.f32()});
        return std::vector<Tensor>{dx};
      });
  if (trace::active()) trace::record({"upsample_nearest", {x}, out, {{"scale", factor}}});
  return out;
}

Variable add(const Variable& a, const Variable& b) {
  check(a.shape() == b.shape(), "add: shapes {} and {}", a.shape().str(), b.shape().str());
  const Tensor y(a.shape());
  cpu::add_scaled({a.f32(), b.f32(), y.f32(), y.numel()});
  Variable out = make_result("add", y, {a, b}, [](const Tensor& dy, const std::vector<bool>&) {
    return std::vector<Tensor>{dy, dy};
  });
  if (trace::active()) trace::record({"add", {a, b}, out, {}});
  return out;
}

namespace {

// Sum over all but the last axis of a * b: [C].
Tensor dot_by_channel(const Tensor& a, const Tensor& b) {
  const Tensor out(Shape{a.dim(-1)});
  cpu::channel_dot({a.f32(), b.f32(), out.f32(), a.numel() / a.dim(-1), a.dim(-1)});
  return out;
}

}  // namespace

Variable add(const Variable& a, const Variable& b, const Variable& alpha) {
  check(a.shape() == b.shape(), "add: shapes {} and {}", a.shape().str(), b.shape().str());
  check(alpha.shape() == Shape{1}, "add: alpha {} is not [1]", alpha.shape().str());
  const float factor = alpha.data().item();
  const Tensor y(a.shape());
  cpu::add_scaled({a.f32(), b.f32(), y.f32(), y.numel(), 1.0f, factor});
  Variable out =
      make_result("add", y, {a, b, alpha},
                  [factor, bt = b.data()](const Tensor& dy, const std::vector<bool>& needs) {
                    Tensor db, dalpha;
                    if (needs[1]) {
                      db = Tensor(dy.shape());
                      cpu::add_scaled({dy.f32(), dy.f32(), db.f32(), db.numel(), factor, 0.0f});
                    }
                    if (needs[2]) {
                      const Tensor dots = dot_by_channel(dy, bt);
                      double sum = 0;
                      for (const float v : dots.span<float>()) sum += v;
                      dalpha = Tensor::full(Shape{1}, static_cast<float>(sum));
                    }
                    return std::vector<Tensor>{dy, db, dalpha};
                  });
  if (trace::active()) trace::record({"add", {a, b}, out, {{"alpha", factor}}});
  return out;
}

Variable branch_sum(const std::vector<Variable>& branches, const std::vector<Variable>& scales) {
  const size_t k = branches.size();
  check(k >= 2 && k <= kernels::kMaxSummands && (scales.empty() || scales.size() == k),
        "branch_sum: {} branches with {} scales (2 to {} branches)", k, scales.size(),
        kernels::kMaxSummands);
  const Shape s = branches[0].shape();
  for (const auto& v : branches)
    check(v.shape() == s, "branch_sum: shapes {} and {}", s.str(), v.shape().str());
  for (const auto& w : scales)
    check(w.shape() == Shape{s[-1]}, "branch_sum: scale {} for {} channels", w.shape().str(),
          s[-1]);
  if (trace::active()) {
    Variable sum;
    for (size_t b = 0; b < k; ++b) {
      Variable v = branches[b];
      if (!scales.empty())
        v = conv2d(v, Variable(scales[b].data().reshape(Shape{s[-1], 1, 1, 1})), {}, {1, 0, s[-1]});
      sum = b == 0 ? v : add(sum, v);
    }
    return sum;
  }
  const Tensor y(s);
  kernels::BranchSum p;
  p.branches = static_cast<int>(k);
  p.y = y.f32();
  p.channels = s[-1];
  p.rows = s.numel() / s[-1];
  std::vector<Tensor> x, w;  // what backward needs, none of it without scales
  for (size_t b = 0; b < k; ++b) {
    p.x[b] = branches[b].f32();
    if (scales.empty()) continue;
    p.scale[b] = scales[b].f32();
    x.push_back(branches[b].data());
    w.push_back(scales[b].data());
  }
  cpu::branch_sum(p);
  std::vector<Variable> inputs = branches;
  inputs.insert(inputs.end(), scales.begin(), scales.end());
  return make_result(
      "branch_sum", y, inputs, [k, x, w](const Tensor& dy, const std::vector<bool>& needs) {
        if (w.empty()) return std::vector<Tensor>(k, dy);
        std::vector<Tensor> grads(2 * k);
        const int64_t channels = dy.dim(-1);
        for (size_t b = 0; b < k; ++b) {
          if (needs[b]) {
            grads[b] = Tensor(dy.shape());
            cpu::branch_sum(
                {{dy.f32()}, {w[b].f32()}, 1, grads[b].f32(), dy.numel() / channels, channels});
          }
          if (needs[k + b]) grads[k + b] = dot_by_channel(dy, x[b]);
        }
        return grads;
      });
}

Variable scale(const Variable& x, float alpha) {
  const auto times = [alpha](const Tensor& t) {
    const Tensor y(t.shape());
    cpu::add_scaled({t.f32(), t.f32(), y.f32(), y.numel(), alpha, 0.0f});
    return y;
  };
  return make_result("scale", times(x.data()), {x},
                     [times](const Tensor& dy, const std::vector<bool>&) {
                       return std::vector<Tensor>{times(dy)};
                     });
}

namespace {
int64_t rows_of(const Shape& s) { return s.numel() / s[-1]; }
Shape with_channels(Shape s, int64_t channels) {
  s[-1] = channels;
  return s;
}
}  // namespace

Variable concat(const std::vector<Variable>& inputs) {
  check(!inputs.empty(), "concat: no inputs");
  std::vector<int64_t> channels;
  int64_t total = 0;
  for (const auto& v : inputs) {
    check(with_channels(v.shape(), 1) == with_channels(inputs[0].shape(), 1),
          "concat: shapes {} and {} differ beyond their channels", inputs[0].shape().str(),
          v.shape().str());
    channels.push_back(v.dim(-1));
    total += v.dim(-1);
  }
  const Tensor y(with_channels(inputs[0].shape(), total));
  const int64_t rows = rows_of(y.shape());
  int64_t offset = 0;
  for (const auto& v : inputs) {
    cpu::copy_channels({rows, v.dim(-1), v.f32(), v.dim(-1), 0, y.f32(), total, offset});
    offset += v.dim(-1);
  }
  Variable out =
      make_result("concat", y, inputs,
                  [channels, rows, total](const Tensor& dy, const std::vector<bool>& needs) {
                    std::vector<Tensor> grads(channels.size());
                    int64_t at = 0;
                    for (size_t i = 0; i < channels.size(); ++i) {
                      if (needs[i]) {
                        grads[i] = Tensor(with_channels(dy.shape(), channels[i]));
                        cpu::copy_channels({rows, channels[i], dy.f32(), total, at, grads[i].f32(),
                                            channels[i], 0});
                      }
                      at += channels[i];
                    }
                    return grads;
                  });
  if (trace::active()) trace::record({"concat", inputs, out, {}});
  return out;
}

Variable slice_channels(const Variable& x, int64_t begin, int64_t end) {
  const int64_t total = x.dim(-1), count = end - begin;
  check(0 <= begin && begin < end && end <= total, "slice_channels: [{},{}) of shape {}", begin,
        end, x.shape().str());
  const int64_t rows = rows_of(x.shape());
  const Tensor y(with_channels(x.shape(), count));
  cpu::copy_channels({rows, count, x.f32(), total, begin, y.f32(), count, 0});
  Variable out =
      make_result("slice_channels", y, {x},
                  [rows, count, total, begin](const Tensor& dy, const std::vector<bool>&) {
                    const Tensor dx = Tensor::zeros(with_channels(dy.shape(), total));
                    cpu::copy_channels({rows, count, dy.f32(), count, 0, dx.f32(), total, begin});
                    return std::vector<Tensor>{dx};
                  });
  if (trace::active())
    trace::record({"slice_channels", {x}, out, {{"begin", begin}, {"end", end}}});
  return out;
}

Variable weighted_sum(const Variable& x, const Tensor& w) {
  check(x.shape() == w.shape(), "weighted_sum: shapes {} and {}", x.shape().str(), w.shape().str());
  double sum = 0;
  for (int64_t i = 0; i < w.numel(); ++i) sum += static_cast<double>(x.f32()[i]) * w.f32()[i];
  return make_result("weighted_sum", Tensor::full(Shape{1}, static_cast<float>(sum)), {x},
                     [w](const Tensor& dy, const std::vector<bool>&) {
                       const Tensor dx(w.shape());
                       const auto g = static_cast<float>(dy.item());
                       cpu::add_scaled({w.f32(), w.f32(), dx.f32(), dx.numel(), g, 0.0f});
                       return std::vector<Tensor>{dx};
                     });
}

Variable fake_quant(const Variable& x, const Tensor& amax, FakeQuantParams params) {
  const Shape& s = x.shape();
  int64_t outer = 1, channels = 1, inner = s.numel();
  if (amax.numel() > 1) {
    const int axis = params.axis < 0 ? params.axis + s.rank() : params.axis;
    check(axis >= 0 && axis < s.rank() && s[axis] == amax.numel(),
          "fake_quant: {} amax values for axis {} of {}", amax.numel(), params.axis, s.str());
    channels = s[axis];
    inner = 1;
    for (int i = 0; i < axis; ++i) outer *= s[i];
    for (int i = axis + 1; i < s.rank(); ++i) inner *= s[i];
  }
  const Tensor y(s);
  cpu::fake_quant_forward({x.f32(), amax.f32(), y.f32(), outer, channels, inner, params.bits,
                           params.is_unsigned, params.narrow_range});
  return make_result(
      "fake_quant", y, {x},
      [saved = x.data(), amax, outer, channels, inner, is_unsigned = params.is_unsigned](
          const Tensor& dy, const std::vector<bool>&) {
        const Tensor dx(saved.shape());
        cpu::fake_quant_backward(
            {saved.f32(), amax.f32(), dy.f32(), dx.f32(), outer, channels, inner, is_unsigned});
        return std::vector<Tensor>{dx};
      });
}

Tensor image_to_float(const Tensor& bytes) {
  const Tensor y(bytes.shape());
  cpu::bytes_to_float(bytes.data<uint8_t>(), y.f32(), y.numel());
  return y;
}

}  // namespace sextant
