#include <map>
#include <memory>
#include <mutex>
#include <tuple>
#include <vector>

#include "core/parallel.h"
#include "core/tensor.h"
#include "kernels/conv.h"
#include "kernels/cpu/conv/onednn.h"
#include "kernels/cpu/f32_only.h"

namespace sextant::kernels::SEXTANT_CPU {
namespace {

using dnnl::memory;
using Dims = memory::dims;
constexpr auto kF32 = memory::data_type::f32;

enum class Kind { kForward, kBackwardData, kBackwardWeight };

struct Key {
  ConvShape shape;
  Kind kind;
  bool bias, accumulate, relu;
  auto operator<=>(const Key&) const = default;
};

// A primitive, and the weights in the layout it wants. Weights change with every training step, so
// they are reordered on each call: 0.1% of the convolution's time.
struct Plan {
  dnnl::primitive primitive;
  memory src, dst, weights, bias, scratch;
  memory plain_weights;  // a view of the caller's [oc,kh,kw,ic]
  std::unique_ptr<dnnl::reorder> reorder;
};

memory::desc plain_weight_desc(const ConvShape& s) {
  const int64_t ig = s.ic / s.groups, og = s.oc / s.groups;
  if (s.groups == 1)
    return {Dims{s.oc, ig, s.kh, s.kw}, kF32, Dims{s.kh * s.kw * ig, 1, s.kw * ig, ig}};
  return {Dims{s.groups, og, ig, s.kh, s.kw}, kF32,
          Dims{og * s.kh * s.kw * ig, s.kh * s.kw * ig, 1, s.kw * ig, ig}};
}

std::unique_ptr<Plan> make_plan(const Key& key) {
  const ConvShape& s = key.shape;
  auto& engine = onednn_engine();
  const auto nhwc = memory::format_tag::nhwc;
  const memory::desc x(Dims{s.n, s.ic, s.h, s.w}, kF32, nhwc);
  const memory::desc y(Dims{s.n, s.oc, s.oh(), s.ow()}, kF32, nhwc);
  const memory::desc plain = plain_weight_desc(s);
  const memory::desc w(plain.dims(), kF32, memory::format_tag::any);
  const memory::desc b =
      key.bias ? memory::desc(Dims{s.oc}, kF32, memory::format_tag::x) : memory::desc();
  const Dims stride{s.stride, s.stride};
  const Dims pad{s.pad, s.pad};
  const auto algorithm = dnnl::algorithm::convolution_direct;

  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  dnnl::post_ops post;
  if (key.accumulate) post.append_sum(1.0f);
  if (key.relu) post.append_eltwise(1.0f, dnnl::algorithm::eltwise_relu, 0.0f, 0.0f);
  attr.set_post_ops(post);

  const dnnl::convolution_forward::primitive_desc forward(
      {key.kind == Kind::kForward ? dnnl::prop_kind::forward_inference
                                  : dnnl::prop_kind::forward_training,
       algorithm, x, w, key.kind == Kind::kForward ? b : memory::desc(), y, stride, pad, pad},
      key.kind == Kind::kForward ? attr : dnnl::primitive_attr(), engine);

  auto plan = std::make_unique<Plan>();
  memory::desc wanted, scratch;
  if (key.kind == Kind::kForward) {
    plan->primitive = dnnl::convolution_forward(forward);
    wanted = forward.weights_desc();
    scratch = forward.scratchpad_desc();
  } else if (key.kind == Kind::kBackwardData) {
    const dnnl::convolution_backward_data::primitive_desc pd({algorithm, x, w, y, stride, pad, pad},
                                                             attr, engine, forward);
    plan->primitive = dnnl::convolution_backward_data(pd);
    wanted = pd.weights_desc();
    scratch = pd.scratchpad_desc();
  } else {
    const dnnl::convolution_backward_weights::primitive_desc pd(
        {algorithm, x, w, b, y, stride, pad, pad}, attr, engine, forward);
    plan->primitive = dnnl::convolution_backward_weights(pd);
    wanted = pd.diff_weights_desc();
    scratch = pd.scratchpad_desc();
  }
  plan->src = memory(x, engine, nullptr);
  plan->dst = memory(y, engine, nullptr);
  if (key.bias) plan->bias = memory(b, engine, nullptr);
  plan->scratch = memory(scratch, engine, nullptr);
  plan->plain_weights = memory(plain, engine, nullptr);
  if (wanted == plain) {
    plan->weights = memory(plain, engine, nullptr);
  } else {
    plan->weights = memory(wanted, engine);
    plan->reorder = std::make_unique<dnnl::reorder>(
        key.kind == Kind::kBackwardWeight ? dnnl::reorder(plan->weights, plan->plain_weights)
                                          : dnnl::reorder(plan->plain_weights, plan->weights));
  }
  return plan;
}

// Plans share one scratchpad, so they run one at a time: the lock is held while a plan is used.
class PlanCache {
 public:
  Plan& get(const Key& key) {
    auto& plan = plans_[key];
    if (!plan) plan = onednn_call("conv2d", [&] { return make_plan(key); });
    const auto bytes = static_cast<int64_t>(plan->scratch.get_desc().get_size());
    if (!scratch_.defined() || scratch_.bytes() < bytes)
      scratch_ = Tensor(Shape{std::max<int64_t>(bytes, 1 << 20)}, DType::kU8);
    plan->scratch.set_data_handle(scratch_.raw());
    return *plan;
  }
  std::mutex mutex;

 private:
  std::map<Key, std::unique_ptr<Plan>> plans_;
  Tensor scratch_;
};

PlanCache& cache() {
  static PlanCache c;
  return c;
}

void* writable(const void* p) { return const_cast<void*>(p); }

void run_forward(const ConvForward& p) {
  const std::lock_guard lock(cache().mutex);
  Plan& plan = cache().get({p.shape, Kind::kForward, p.bias != nullptr, p.accumulate,
                            p.epilogue.activation == Activation::kReLU});
  onednn_call("conv2d", [&] {
    auto& stream = onednn_stream();
    plan.src.set_data_handle(writable(p.x));
    plan.dst.set_data_handle(p.y);
    plan.plain_weights.set_data_handle(writable(p.w));
    if (plan.reorder)
      plan.reorder->execute(stream, plan.plain_weights, plan.weights);
    else
      plan.weights.set_data_handle(writable(p.w));
    std::unordered_map<int, memory> args{{DNNL_ARG_SRC, plan.src},
                                         {DNNL_ARG_WEIGHTS, plan.weights},
                                         {DNNL_ARG_DST, plan.dst},
                                         {DNNL_ARG_SCRATCHPAD, plan.scratch}};
    if (p.bias) {
      plan.bias.set_data_handle(writable(p.bias));
      args[DNNL_ARG_BIAS] = plan.bias;
    }
    plan.primitive.execute(stream, args);
    stream.wait();
  });
}

void run_backward_data(const ConvBackwardData& p) {
  const std::lock_guard lock(cache().mutex);
  Plan& plan = cache().get({p.shape, Kind::kBackwardData, false, false, false});
  onednn_call("conv2d backward", [&] {
    auto& stream = onednn_stream();
    plan.src.set_data_handle(p.dx);
    plan.dst.set_data_handle(writable(p.dy));
    plan.plain_weights.set_data_handle(writable(p.w));
    if (plan.reorder)
      plan.reorder->execute(stream, plan.plain_weights, plan.weights);
    else
      plan.weights.set_data_handle(writable(p.w));
    plan.primitive.execute(stream, {{DNNL_ARG_DIFF_SRC, plan.src},
                                    {DNNL_ARG_WEIGHTS, plan.weights},
                                    {DNNL_ARG_DIFF_DST, plan.dst},
                                    {DNNL_ARG_SCRATCHPAD, plan.scratch}});
    stream.wait();
  });
}

// The data gradient of a stride-1 convolution is itself a convolution, with the kernel turned by
// 180 degrees and its channels exchanged; unlike oneDNN's backward it can add into dx.
void backward_data_as_forward(const ConvBackwardData& p) {
  const ConvShape& s = p.shape;
  const Tensor turned(Shape{s.w_numel()});
  float* out = turned.f32();
  const float* w = f32(p.w);
  const int64_t taps = s.kh * s.kw;
  // Sixteen rows at a time: each cache line of w is read once, each written row runs on.
  parallel_for((s.ic + 15) / 16, 1, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block)
      for (int64_t t = 0; t < taps; ++t)
        for (int64_t o = 0; o < s.oc; ++o)
          for (int64_t i = block * 16; i < std::min(s.ic, block * 16 + 16); ++i)
            out[(i * taps + taps - 1 - t) * s.oc + o] = w[(o * taps + t) * s.ic + i];
  });
  ConvShape back{s.n, s.oh(), s.ow(), s.oc, s.ic, s.kh, s.kw, 1, s.kh - 1 - s.pad, 1};
  run_forward({back, p.dy, turned.f32(), nullptr, p.dx, p.accumulate});
}

// A 1x1 convolution with a stride reads every stride-th pixel only. It is run as a dense one over
// those pixels: faster, and oneDNN 2.6's weight gradient of the strided form writes out of bounds
// when x has 3 channels.
bool is_strided_pointwise(const ConvShape& s) {
  return s.kh == 1 && s.kw == 1 && s.pad == 0 && s.groups == 1 && s.stride > 1;
}

ConvShape dense_pointwise(const ConvShape& s) {
  return {s.n, s.oh(), s.ow(), s.ic, s.oc, 1, 1, 1, 0, 1};
}

Tensor gather_pixels(const ConvShape& s, const float* x) {
  const int64_t oh = s.oh(), ow = s.ow();
  Tensor out(Shape{s.n, oh, ow, s.ic});
  parallel_for(s.n * oh, 4, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      for (int64_t j = 0; j < ow; ++j)
        std::copy_n(x + (((r / oh) * s.h + (r % oh) * s.stride) * s.w + j * s.stride) * s.ic, s.ic,
                    out.f32() + (r * ow + j) * s.ic);
  });
  return out;
}

void backward_data_pointwise_strided(const ConvBackwardData& p) {
  const ConvShape& s = p.shape;
  const int64_t oh = s.oh(), ow = s.ow();
  const Tensor part(Shape{s.n, oh, ow, s.ic});
  backward_data_as_forward({dense_pointwise(s), p.dy, p.w, part.f32()});
  parallel_for(s.n * oh, 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      for (int64_t j = 0; j < ow; ++j) {
        const float* from = part.f32() + (r * ow + j) * s.ic;
        float* to =
            f32(p.dx) + (((r / oh) * s.h + (r % oh) * s.stride) * s.w + j * s.stride) * s.ic;
#pragma omp simd
        for (int64_t c = 0; c < s.ic; ++c) to[c] += from[c];
      }
  });
}

void run_backward_weight(const ConvBackwardWeight& p) {
  const std::lock_guard lock(cache().mutex);
  Plan& plan = cache().get({p.shape, Kind::kBackwardWeight, p.db != nullptr, false, false});
  onednn_call("conv2d weight gradient", [&] {
    auto& stream = onednn_stream();
    plan.src.set_data_handle(writable(p.x));
    plan.dst.set_data_handle(writable(p.dy));
    plan.plain_weights.set_data_handle(p.dw);
    if (!plan.reorder) plan.weights.set_data_handle(p.dw);
    std::unordered_map<int, memory> args{{DNNL_ARG_SRC, plan.src},
                                         {DNNL_ARG_DIFF_WEIGHTS, plan.weights},
                                         {DNNL_ARG_DIFF_DST, plan.dst},
                                         {DNNL_ARG_SCRATCHPAD, plan.scratch}};
    if (p.db) {
      plan.bias.set_data_handle(p.db);
      args[DNNL_ARG_DIFF_BIAS] = plan.bias;
    }
    plan.primitive.execute(stream, args);
    if (plan.reorder) plan.reorder->execute(stream, plan.weights, plan.plain_weights);
    stream.wait();
  });
}

}  // namespace

void conv_forward(const ConvForward& p) {
  check_f32("conv_forward", p.dtype);
  const Activation a = p.epilogue.activation;
  check(!p.residual && (a == Activation::kIdentity || a == Activation::kReLU),
        "conv_forward: on the CPU without a residual, and with no activation but ReLU");
  if (!is_strided_pointwise(p.shape)) return run_forward(p);
  const Tensor x = gather_pixels(p.shape, f32(p.x));
  run_forward({dense_pointwise(p.shape), x.f32(), p.w, p.bias, p.y, p.accumulate, p.epilogue});
}

void conv_backward_data(const ConvBackwardData& p) {
  check_f32("conv_backward_data", p.dtype);
  const ConvShape& s = p.shape;
  if (s.stride == 1 && s.groups == 1 && s.pad < s.kh && s.kh == s.kw)
    return backward_data_as_forward(p);
  if (is_strided_pointwise(s)) {
    if (!p.accumulate) std::fill_n(f32(p.dx), s.x_numel(), 0.0f);
    return backward_data_pointwise_strided(p);
  }
  if (!p.accumulate) return run_backward_data(p);
  const Tensor part(Shape{s.x_numel()});
  run_backward_data({s, p.dy, p.w, part.f32()});
  parallel_for(s.x_numel(), 1 << 14, [&](int64_t begin, int64_t end) {
    const float* from = part.f32();
    float* to = f32(p.dx);
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) to[i] += from[i];
  });
}

void conv_backward_weight(const ConvBackwardWeight& p) {
  check_f32("conv_backward_weight", p.dtype);
  if (!is_strided_pointwise(p.shape)) return run_backward_weight(p);
  const Tensor x = gather_pixels(p.shape, f32(p.x));
  run_backward_weight({dense_pointwise(p.shape), x.f32(), p.dy, p.dw, p.db});
}

}  // namespace sextant::kernels::SEXTANT_CPU
