// SPDX-License-Identifier: Apache-2.0
#include "onednn.h"

#ifdef SEXTANT_ONEDNN

#include <fmt/format.h>

#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>

namespace sextant::bench {
namespace {

using dnnl::memory;
using kernels::ConvShape;

memory::dims dims_of(const memory::desc& d) {
#if DNNL_VERSION_MAJOR >= 3
  return d.get_dims();
#else
  return d.dims();
#endif
}

struct Descriptions {
  memory::desc x, w, y, bias;
};

const dnnl::engine& cpu() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

memory::data_type type_of(DType t) {
  if (t == DType::kU8) return memory::data_type::u8;
  return t == DType::kI8 ? memory::data_type::s8 : memory::data_type::f32;
}

Descriptions describe(const ConvShape& s, DType x, memory::data_type w, DType y) {
  const auto nhwc = memory::format_tag::nhwc;
  const memory::dims weights =
      s.groups == 1 ? memory::dims{s.oc, s.ic, s.kh, s.kw}
                    : memory::dims{s.groups, s.oc / s.groups, s.ic / s.groups, s.kh, s.kw};
  return {{{s.n, s.ic, s.h, s.w}, type_of(x), nhwc},
          {weights, w, memory::format_tag::any},
          {{s.n, s.oc, s.oh(), s.ow()}, type_of(y), nhwc},
          {{s.oc}, memory::data_type::f32, memory::format_tag::x}};
}

dnnl::convolution_forward::primitive_desc forward_desc(const ConvShape& s, const Descriptions& d,
                                                       const dnnl::primitive_attr& attr) {
  const memory::dims stride{s.stride, s.stride}, pad{s.pad, s.pad};
  const auto kind = dnnl::prop_kind::forward_inference;
  const auto direct = dnnl::algorithm::convolution_direct;
#if DNNL_VERSION_MAJOR >= 3
  return {cpu(), kind, direct, d.x, d.w, d.bias, d.y, stride, pad, pad, attr};
#else
  return {{kind, direct, d.x, d.w, d.bias, d.y, stride, pad, pad}, attr, cpu()};
#endif
}

void append_activation(dnnl::post_ops& ops, Activation a) {
  if (a == Activation::kIdentity) return;
  const auto algorithm =
      a == Activation::kReLU ? dnnl::algorithm::eltwise_relu : dnnl::algorithm::eltwise_swish;
  const float alpha = a == Activation::kReLU ? 0.0f : 1.0f;
#if DNNL_VERSION_MAJOR >= 3
  ops.append_eltwise(algorithm, alpha, 0.0f);
#else
  ops.append_eltwise(1.0f, algorithm, alpha, 0.0f);
#endif
}

memory at(const memory::desc& desc, const void* data) {
  return memory(desc, cpu(), const_cast<void*>(data));
}

struct Call {
  dnnl::convolution_forward primitive;
  std::unordered_map<int, memory> arguments;
  dnnl::stream stream{cpu()};
};

template <class P>
std::function<void()> make(const P& p, const Descriptions& d, const dnnl::primitive_attr& attr,
                           memory::data_type weight_type) {
  const ConvShape& s = p.shape;
  const auto chosen = forward_desc(s, d, attr);
  auto call = std::make_shared<Call>();
  call->primitive = dnnl::convolution_forward(chosen);
  const memory plain = at({dims_of(d.w), weight_type,
                           s.groups == 1 ? memory::format_tag::ohwi : memory::format_tag::gohwi},
                          p.w);
  memory weights(chosen.weights_desc(), cpu());
  dnnl::reorder(plain, weights).execute(call->stream, const_cast<memory&>(plain), weights);
  call->stream.wait();
  call->arguments = {{DNNL_ARG_SRC, at(d.x, p.x)},
                     {DNNL_ARG_WEIGHTS, weights},
                     {DNNL_ARG_BIAS, at(d.bias, p.bias)},
                     {DNNL_ARG_DST, at(d.y, p.y)}};
  return [call] {
    call->primitive.execute(call->stream, call->arguments);
    call->stream.wait();
  };
}

// Forward, for the hints of the gradients.
dnnl::convolution_forward::primitive_desc hint_of(const ConvShape& s, const Descriptions& d) {
  Descriptions without_bias = d;
  without_bias.bias = memory::desc();
  return forward_desc(s, without_bias, dnnl::primitive_attr());
}

memory::desc plain_weights(const ConvShape& s, const memory::desc& w) {
  return {dims_of(w), memory::data_type::f32,
          s.groups == 1 ? memory::format_tag::ohwi : memory::format_tag::gohwi};
}

}  // namespace

std::string onednn_version() {
  const dnnl::version_t* v = dnnl::version();
  return fmt::format("{}.{}.{}", v->major, v->minor, v->patch);
}

std::function<void()> onednn_forward(const kernels::ConvForward& p) {
  dnnl::primitive_attr attr;
  dnnl::post_ops ops;
  append_activation(ops, p.epilogue.activation);
  attr.set_post_ops(ops);
  const auto f32 = memory::data_type::f32;
  return make(p, describe(p.shape, DType::kF32, f32, DType::kF32), attr, f32);
}

std::function<void()> onednn_backward_data(const kernels::ConvBackwardData& p) {
  const ConvShape& s = p.shape;
  const auto f32 = memory::data_type::f32;
  const Descriptions d = describe(s, DType::kF32, f32, DType::kF32);
  const memory::dims stride{s.stride, s.stride}, pad{s.pad, s.pad};
  const auto direct = dnnl::algorithm::convolution_direct;
  const auto hint = hint_of(s, d);
#if DNNL_VERSION_MAJOR >= 3
  const dnnl::convolution_backward_data::primitive_desc chosen(cpu(), direct, d.x, d.w, d.y, stride,
                                                               pad, pad, hint);
#else
  const dnnl::convolution_backward_data::primitive_desc chosen(
      {direct, d.x, d.w, d.y, stride, pad, pad}, cpu(), hint);
#endif
  const dnnl::convolution_backward_data primitive(chosen);
  const memory plain = at(plain_weights(s, d.w), p.w), weights(chosen.weights_desc(), cpu());
  const dnnl::reorder reorder(plain, weights);
  const memory dy = at(d.y, p.dy), dx = at(d.x, p.dx);
  return [=, stream = dnnl::stream(cpu())]() mutable {
    reorder.execute(stream, {{DNNL_ARG_FROM, plain}, {DNNL_ARG_TO, weights}});
    primitive.execute(
        stream, {{DNNL_ARG_DIFF_DST, dy}, {DNNL_ARG_WEIGHTS, weights}, {DNNL_ARG_DIFF_SRC, dx}});
    stream.wait();
  };
}

std::function<void()> onednn_backward_weight(const kernels::ConvBackwardWeight& p) {
  const ConvShape& s = p.shape;
  const auto f32 = memory::data_type::f32;
  const Descriptions d = describe(s, DType::kF32, f32, DType::kF32);
  const memory::dims stride{s.stride, s.stride}, pad{s.pad, s.pad};
  const auto direct = dnnl::algorithm::convolution_direct;
  const auto hint = hint_of(s, d);
#if DNNL_VERSION_MAJOR >= 3
  const dnnl::convolution_backward_weights::primitive_desc chosen(cpu(), direct, d.x, d.w, d.y,
                                                                  stride, pad, pad, hint);
#else
  const dnnl::convolution_backward_weights::primitive_desc chosen(
      {direct, d.x, d.w, d.y, stride, pad, pad}, cpu(), hint);
#endif
  const dnnl::convolution_backward_weights primitive(chosen);
  const memory plain = at(plain_weights(s, d.w), p.dw), weights(chosen.diff_weights_desc(), cpu());
  const dnnl::reorder reorder(weights, plain);
  const memory dy = at(d.y, p.dy), x = at(d.x, p.x);
  return [=, stream = dnnl::stream(cpu())]() mutable {
    primitive.execute(
        stream, {{DNNL_ARG_DIFF_DST, dy}, {DNNL_ARG_SRC, x}, {DNNL_ARG_DIFF_WEIGHTS, weights}});
    reorder.execute(stream, {{DNNL_ARG_FROM, weights}, {DNNL_ARG_TO, plain}});
    stream.wait();
  };
}

std::function<void()> onednn_int8(const kernels::ConvInt8Forward& p) {
  dnnl::primitive_attr attr;
  dnnl::post_ops ops;
  append_activation(ops, p.epilogue.activation);
  attr.set_post_ops(ops);
#if DNNL_VERSION_MAJOR >= 3
  attr.set_scales_mask(DNNL_ARG_WEIGHTS, p.shape.groups == 1 ? 1 : 3);
#else
  attr.set_output_scales(1 << 1, {p.factor, p.factor + p.shape.oc});
#endif
  const auto s8 = memory::data_type::s8;
  auto run = make(p, describe(p.shape, p.x_type, s8, p.y_type), attr, s8);
  return run;
}

}  // namespace sextant::bench

#else

namespace sextant::bench {

std::string onednn_version() { return ""; }
std::function<void()> onednn_forward(const kernels::ConvForward&) { return nullptr; }
std::function<void()> onednn_backward_data(const kernels::ConvBackwardData&) { return nullptr; }
std::function<void()> onednn_backward_weight(const kernels::ConvBackwardWeight&) { return nullptr; }
std::function<void()> onednn_int8(const kernels::ConvInt8Forward&) { return nullptr; }

}  // namespace sextant::bench

#endif
