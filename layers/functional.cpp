// SPDX-License-Identifier: Apache-2.0
#include "layers/functional.h"

#include "core/trace.h"
#include "layers/autocast.h"
#include "layers/placement.h"

namespace sextant {

Variable activation(const Variable& x, Activation act) {
  const Tensor y = like(x.data());
  on(y).act_forward({x.data().raw(), y.raw(), y.numel(), act, y.dtype()});
  Variable out = make_result(
      "activation", y, {x}, [saved = x.data(), act](const Tensor& dy, const std::vector<bool>&) {
        const Tensor dx = like(saved);
        on(dx).act_backward({saved.raw(), dy.raw(), dx.raw(), dx.numel(), act, dx.dtype()});
        return std::vector<Tensor>{dx};
      });
  if (trace::active()) trace::record({"activation", {x}, out, {{"activation", name_of(act)}}});
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
  check(s[1] + 2 * params.padding >= params.kernel && s[2] + 2 * params.padding >= params.kernel,
        "max_pool2d: kernel {} on input {}", params.kernel, s.str());
  const Tensor y = like(x.data(), Shape{s[0], p.oh(), p.ow(), s[3]});
  const Tensor index = needs_grad({x}) ? Tensor(y.shape(), DType::kI32, y.device()) : Tensor();
  p.x = x.data().raw();
  p.y = y.raw();
  p.dtype = y.dtype();
  p.index = index.defined() ? index.data<int32_t>() : nullptr;
  on(y).max_pool_forward(p);
  Variable out = make_result(
      "max_pool2d", y, {x}, [index, s, params](const Tensor& dy, const std::vector<bool>&) {
        const Tensor dx = like(dy, s);
        on(dy).max_pool_backward({s[0], s[1], s[2], s[3], dy.dim(1), dy.dim(2), dy.raw(),
                                  index.data<int32_t>(), dx.raw(), params.kernel, params.stride,
                                  params.padding, false, dy.dtype()});
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

Variable pool_pyramid(const Variable& x, int64_t kernel) {
  const Shape& s = x.shape();
  check(s.rank() == 4 && kernel >= 1 && kernel % 2 == 1, "pool_pyramid: kernel {} on input {}",
        kernel, s.str());
  if (trace::active()) {
    const PoolParams pool{kernel, 1, kernel / 2};
    const Variable a = max_pool2d(x, pool);
    const Variable b = max_pool2d(a, pool);
    return concat({x, a, b, max_pool2d(b, pool)});
  }
  const bool keeps = needs_grad({x});
  std::vector<Tensor> maps{x.data()}, index;
  kernels::ChainedMaxPools p{.n = s[0], .h = s[1], .w = s[2], .c = s[3], .kernel = kernel};
  p.x = x.data().raw();
  p.dtype = x.data().dtype();
  for (size_t i = 0; i < 3; ++i) {
    maps.push_back(like(x.data()));
    p.y[i] = maps.back().raw();
    if (!keeps) continue;
    index.emplace_back(s, DType::kI32, x.data().device());
    p.index[i] = index.back().data<int32_t>();
  }
  const kernels::Backend& backend = on(x.data());
  backend.chained_max_pools(p);
  const int64_t channels = s[3], rows = s.numel() / channels;
  const Tensor y = like(x.data(), Shape{s[0], s[1], s[2], 4 * channels});
  for (int64_t i = 0; i < 4; ++i)
    backend.copy_channels({rows, channels, maps[static_cast<size_t>(i)].raw(), channels, 0, y.raw(),
                           4 * channels, i * channels, y.dtype()});
  return make_result(
      "pool_pyramid", y, {x},
      [s, kernel, rows, channels, index](const Tensor& dy, const std::vector<bool>&) {
        const kernels::Backend& there = on(dy);
        const auto part = [&](int64_t i) {
          const Tensor d = like(dy, s);
          there.copy_channels({rows, channels, dy.raw(), 4 * channels, i * channels, d.raw(),
                               channels, 0, dy.dtype()});
          return d;
        };
        Tensor grad = part(3);  // of the last map, then of the one before it
        const Tensor back = like(dy, s);
        for (int64_t i = 2; i >= 0; --i) {
          there.max_pool_backward({s[0], s[1], s[2], s[3], s[1], s[2], grad.raw(),
                                   index[static_cast<size_t>(i)].data<int32_t>(), back.raw(),
                                   kernel, 1, kernel / 2, false, dy.dtype()});
          grad = part(i);
          there.add_scaled({.a = grad.raw(),
                            .b = back.raw(),
                            .y = grad.raw(),
                            .n = grad.numel(),
                            .dtype = dy.dtype()});
        }
        return std::vector<Tensor>{grad};
      });
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
    const Tensor y = like(t);
    on(t).average_pool({s[0], s[1], s[2], s[3], kernel, t.raw(), y.raw(), t.dtype()});
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
  const Tensor y = like(x.data(), Shape{s[0], s[1] * factor, s[2] * factor, s[3]});
  on(y).upsample_forward({s[0], s[1], s[2], s[3], factor, x.data().raw(), y.raw(), y.dtype()});
  Variable out = make_result(
      "upsample_nearest", y, {x}, [s, factor](const Tensor& dy, const std::vector<bool>&) {
        const Tensor dx = like(dy, s);
        on(dy).upsample_backward({s[0], s[1], s[2], s[3], factor, dy.raw(), dx.raw(), dy.dtype()});
        return std::vector<Tensor>{dx};
      });
  if (trace::active()) trace::record({"upsample_nearest", {x}, out, {{"scale", factor}}});
  return out;
}

Variable add(const Variable& a, const Variable& b) {
  check(a.shape() == b.shape(), "add: shapes {} and {}", a.shape().str(), b.shape().str());
  const Tensor y = like(a.data());
  check_same_type("add", y, b.data());
  kernels_for("add", a, b)
      .add_scaled({.a = a.data().raw(),
                   .b = b.data().raw(),
                   .y = y.raw(),
                   .n = y.numel(),
                   .dtype = y.dtype()});
  Variable out = make_result("add", y, {a, b}, [](const Tensor& dy, const std::vector<bool>&) {
    return std::vector<Tensor>{dy, dy};
  });
  if (trace::active()) trace::record({"add", {a, b}, out, {}});
  return out;
}

namespace {

// y = alpha * t
Tensor times(const Tensor& t, float alpha) {
  const Tensor y = like(t);
  on(t).add_scaled({t.raw(), t.raw(), y.raw(), y.numel(), alpha, 0.0f, t.dtype()});
  return y;
}
// The same with a factor [1] that stays on its device.
Tensor times(const Tensor& t, const Tensor& alpha) {
  const Tensor y = like(t);
  on(t).add_scaled({.a = t.raw(),
                    .b = t.raw(),
                    .y = y.raw(),
                    .n = y.numel(),
                    .beta = 0.0f,
                    .dtype = t.dtype(),
                    .alpha_at = alpha.f32()});
  return y;
}

// Sum over all but the last axis of a * b: [C], f32.
Tensor dot_by_channel(const Tensor& a, const Tensor& b) {
  const Tensor out = f32_like(a, Shape{a.dim(-1)});
  on(a).channel_dot({a.raw(), b.raw(), out.f32(), a.numel() / a.dim(-1), a.dim(-1), a.dtype()});
  return out;
}
// Sum of a * b: [1].
Tensor dot(const Tensor& a, const Tensor& b) {
  const Tensor parts = dot_by_channel(a, b), out = f32_like(a, Shape{1});
  on(a).channel_dot({parts.f32(), nullptr, out.f32(), parts.numel(), 1});
  return out;
}

}  // namespace

Variable add(const Variable& a, const Variable& b, const Variable& alpha) {
  check(a.shape() == b.shape(), "add: shapes {} and {}", a.shape().str(), b.shape().str());
  check(alpha.shape() == Shape{1}, "add: alpha {} is not [1]", alpha.shape().str());
  const Tensor y = like(a.data());
  check_same_type("add", y, b.data());
  kernels_for("add", a, b, alpha)
      .add_scaled({.a = a.data().raw(),
                   .b = b.data().raw(),
                   .y = y.raw(),
                   .n = y.numel(),
                   .dtype = y.dtype(),
                   .beta_at = alpha.f32()});
  Variable out = make_result(
      "add", y, {a, b, alpha},
      [factor = alpha.data(), bt = b.data()](const Tensor& dy, const std::vector<bool>& needs) {
        return std::vector<Tensor>{dy, needs[1] ? times(dy, factor) : Tensor(),
                                   needs[2] ? dot(dy, bt) : Tensor()};
      });
  if (trace::active())
    trace::record(
        {"add", {a, b}, out, {{"residual_scale", static_cast<float>(alpha.data().item())}}});
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
  const Tensor y = like(branches[0].data());
  kernels::BranchSum p;
  p.branches = static_cast<int>(k);
  p.y = y.raw();
  p.dtype = y.dtype();
  p.channels = s[-1];
  p.rows = s.numel() / s[-1];
  std::vector<Tensor> x, w;  // what backward needs, none of it without scales
  for (size_t b = 0; b < k; ++b) {
    check_same_type("branch_sum", y, branches[b].data());
    p.x[b] = branches[b].data().raw();
    if (scales.empty()) continue;
    p.scale[b] = scales[b].f32();
    x.push_back(branches[b].data());
    w.push_back(scales[b].data());
  }
  kernels_for("branch_sum", branches[0], branches, scales).branch_sum(p);
  std::vector<Variable> inputs = branches;
  inputs.insert(inputs.end(), scales.begin(), scales.end());
  return make_result("branch_sum", y, inputs,
                     [k, x, w](const Tensor& dy, const std::vector<bool>& needs) {
                       if (w.empty()) return std::vector<Tensor>(k, dy);
                       std::vector<Tensor> grads(2 * k);
                       const int64_t channels = dy.dim(-1);
                       for (size_t b = 0; b < k; ++b) {
                         if (needs[b]) {
                           grads[b] = like(dy);
                           on(dy).branch_sum({{dy.raw()},
                                              {w[b].f32()},
                                              1,
                                              grads[b].raw(),
                                              dy.numel() / channels,
                                              channels,
                                              dy.dtype()});
                         }
                         if (needs[k + b]) grads[k + b] = dot_by_channel(dy, x[b]);
                       }
                       return grads;
                     });
}

Variable scale(const Variable& x, float alpha) {
  return make_result("scale", times(x.data(), alpha), {x},
                     [alpha](const Tensor& dy, const std::vector<bool>&) {
                       return std::vector<Tensor>{times(dy, alpha)};
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
  const kernels::Backend& backend = kernels_for("concat", inputs[0], inputs);
  const Tensor y = like(inputs[0].data(), with_channels(inputs[0].shape(), total));
  const int64_t rows = rows_of(y.shape());
  int64_t offset = 0;
  for (const auto& v : inputs) {
    check_same_type("concat", y, v.data());
    backend.copy_channels(
        {rows, v.dim(-1), v.data().raw(), v.dim(-1), 0, y.raw(), total, offset, y.dtype()});
    offset += v.dim(-1);
  }
  Variable out =
      make_result("concat", y, inputs,
                  [channels, rows, total](const Tensor& dy, const std::vector<bool>& needs) {
                    std::vector<Tensor> grads(channels.size());
                    int64_t at = 0;
                    for (size_t i = 0; i < channels.size(); ++i) {
                      if (needs[i]) {
                        grads[i] = like(dy, with_channels(dy.shape(), channels[i]));
                        on(dy).copy_channels({rows, channels[i], dy.raw(), total, at,
                                              grads[i].raw(), channels[i], 0, dy.dtype()});
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
  const Tensor y = like(x.data(), with_channels(x.shape(), count));
  on(y).copy_channels({rows, count, x.data().raw(), total, begin, y.raw(), count, 0, y.dtype()});
  Variable out = make_result(
      "slice_channels", y, {x},
      [rows, count, total, begin](const Tensor& dy, const std::vector<bool>&) {
        const Tensor dx = like(dy, with_channels(dy.shape(), total));
        dx.fill_zero();
        on(dy).copy_channels({rows, count, dy.raw(), count, 0, dx.raw(), total, begin, dy.dtype()});
        return std::vector<Tensor>{dx};
      });
  if (trace::active())
    trace::record({"slice_channels", {x}, out, {{"begin", begin}, {"end", end}}});
  return out;
}

namespace {

// a * b * factor, where b has a's shape or one pixel per image; with `a` of one row, that row for
// every pixel of `shape`.
Tensor product(const Tensor& a, const Tensor& b, const Shape& shape, float factor = 1.0f) {
  const Tensor y = like(b, shape);
  const int64_t channels = shape[-1];
  const bool per_image = b.shape() != shape;
  const int64_t images = per_image ? shape[0] : 1;
  kernels::MultiplyStrided p;
  p.a = a.raw();
  p.b = b.raw();
  p.y = y.raw();
  p.a_type = p.b_type = p.y_type = y.dtype();
  p.batch = images;
  p.pixels = shape.numel() / channels / images;
  p.channels = channels;
  p.b_per_image = per_image;
  p.a_pitch = a.numel() == channels ? 0 : channels;
  p.b_pitch = p.y_pitch = channels;
  p.factor = factor;
  on(y).multiply_strided(p);
  return y;
}

// The sums of a * b over the pixels of each image: [N,1,1,C] of a's type.
Tensor dot_by_image(const Tensor& a, const Tensor& b) {
  const int64_t images = a.dim(0), channels = a.dim(-1), values = a.numel() / images;
  const Tensor sums = f32_like(a, Shape{images, 1, 1, channels});
  const int64_t bytes = values * size_of(a.dtype());
  const auto image = [&](const Tensor& t, int64_t n) {
    return static_cast<const char*>(static_cast<const void*>(t.raw())) + n * bytes;
  };
  for (int64_t n = 0; n < images; ++n)
    on(a).channel_dot({image(a, n), image(b, n), sums.f32() + n * channels, values / channels,
                       channels, a.dtype()});
  return cast(Variable(sums), a.dtype()).data();
}

}  // namespace

Variable multiply(const Variable& a, const Variable& b) {
  const Shape s = a.shape();
  const bool per_image = b.shape() != s;
  check(s.rank() == 4 && (!per_image || b.shape() == Shape{s[0], 1, 1, s[3]}),
        "multiply: shapes {} and {}, the second must be equal or one pixel per image", s.str(),
        b.shape().str());
  check_same_type("multiply", a.data(), b.data());
  kernels_for("multiply", a, b);
  Variable out = make_result("multiply", product(a.data(), b.data(), s), {a, b},
                             [s, per_image, at = a.data(), bt = b.data()](
                                 const Tensor& dy, const std::vector<bool>& needs) {
                               std::vector<Tensor> grads(2);
                               if (needs[0]) grads[0] = product(dy, bt, s);
                               if (needs[1])
                                 grads[1] = per_image ? dot_by_image(dy, at) : product(dy, at, s);
                               return grads;
                             });
  if (trace::active()) trace::record({"multiply", {a, b}, out, {}});
  return out;
}

Variable global_average(const Variable& x) {
  const Shape s = x.shape();
  check(s.rank() == 4 && s.numel() > 0, "global_average: input {} is not [N,H,W,C]", s.str());
  const Tensor y = like(x.data(), Shape{s[0], 1, 1, s[3]});
  on(y).global_average_strided({.x = x.data().raw(),
                                .y = y.raw(),
                                .x_type = y.dtype(),
                                .y_type = y.dtype(),
                                .batch = s[0],
                                .pixels = s[1] * s[2],
                                .channels = s[3],
                                .x_pitch = s[3],
                                .y_pitch = s[3]});
  Variable out =
      make_result("global_average", y, {x}, [s](const Tensor& dy, const std::vector<bool>&) {
        const Tensor ones =
            cast(Variable(Tensor::full(Shape{s[3]}, 1.0f, dy.device())), dy.dtype()).data();
        return std::vector<Tensor>{product(ones, dy, s, 1.0f / static_cast<float>(s[1] * s[2]))};
      });
  if (trace::active()) trace::record({"global_avg_pool", {x}, out, {}});
  return out;
}

Variable permute_channels(const Variable& x, const std::vector<int64_t>& order) {
  const int64_t channels = x.dim(-1);
  std::vector<int32_t> forward(order.begin(), order.end()), back(order.size(), -1);
  check(std::ssize(order) == channels, "permute_channels: an order of {} for {} channels",
        order.size(), channels);
  for (int64_t c = 0; c < channels; ++c) {
    const int64_t from = order[static_cast<size_t>(c)];
    check(from >= 0 && from < channels && back[static_cast<size_t>(from)] < 0,
          "permute_channels: the order names channel {} twice, or there is none such", from);
    back[static_cast<size_t>(from)] = static_cast<int32_t>(c);
  }
  const auto list = [&](const std::vector<int32_t>& numbers) {
    return Tensor::from<int32_t>(Shape{channels}, numbers).to(x.data().device());
  };
  const auto gathered = [](const Tensor& t, const Tensor& from) {
    const Tensor y = like(t);
    const int64_t c = t.dim(-1);
    on(y).gather_channels({.source = t.raw(),
                           .destination = y.raw(),
                           .channels = from.data<int32_t>(),
                           .rows = rows_of(t.shape()),
                           .count = c,
                           .bytes = size_of(t.dtype()),
                           .source_pitch = c,
                           .destination_pitch = c});
    return y;
  };
  Variable out =
      make_result("permute_channels", gathered(x.data(), list(forward)), {x},
                  [gathered, inverse = list(back)](const Tensor& dy, const std::vector<bool>&) {
                    return std::vector<Tensor>{gathered(dy, inverse)};
                  });
  if (trace::active()) trace::record({"gather_channels", {x}, out, {{"channels", order}}});
  return out;
}

Variable weighted_sum(const Variable& x, const Tensor& w) {
  check(x.shape() == w.shape(), "weighted_sum: shapes {} and {}", x.shape().str(), w.shape().str());
  kernels_for("weighted_sum", x, w);
  check_same_type("weighted_sum", x.data(), w);
  return make_result("weighted_sum", dot(x.data(), w), {x},
                     [w](const Tensor& dy, const std::vector<bool>&) {
                       return std::vector<Tensor>{times(w, dy)};
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
  const Tensor y = like(x.data());
  kernels_for("fake_quant", x, amax)
      .fake_quant_forward({x.f32(), amax.f32(), y.f32(), outer, channels, inner, params.bits,
                           params.is_unsigned, params.narrow_range});
  return make_result(
      "fake_quant", y, {x},
      [saved = x.data(), amax, outer, channels, inner, is_unsigned = params.is_unsigned](
          const Tensor& dy, const std::vector<bool>&) {
        const Tensor dx = like(saved);
        on(dx).fake_quant_backward(
            {saved.f32(), amax.f32(), dy.f32(), dx.f32(), outer, channels, inner, is_unsigned});
        return std::vector<Tensor>{dx};
      });
}

Tensor image_to_float(const Tensor& bytes) {
  const Tensor y(bytes.shape(), DType::kF32, bytes.device());
  on(bytes).bytes_to_float({bytes.data<uint8_t>(), y.f32(), y.numel()});
  return y;
}

}  // namespace sextant
