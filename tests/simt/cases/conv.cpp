// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "kernels/conv_int8.h"
#include "simt/cases/cases.h"
#include "simt/cases/conv_reference.h"
#include "simt/cases/strided.h"

namespace sextant::test {
namespace {

using namespace sextant::kernels;

// --- forward ------------------------------------------------------------------------------------

struct ForwardOptions {
  bool bias = false;
  Activation act = Activation::kIdentity;
  bool residual = false, in_place = false, accumulate = false;
  int64_t x_offset = 0, w_offset = 0, y_offset = 0;  // elements
  int64_t x_gap = 0, y_gap = 0, r_gap = 0;           // elements between two pixels
  float residual_scale = 1.0f;
  bool residual_first = false;  // before the activation
  bool gain = false;
};

Epilogue epilogue(const ForwardOptions& o) {
  return {.activation = o.act,
          .residual_scale = o.residual_scale,
          .residual_before_activation = o.residual_first};
}

std::vector<float> gains(int64_t channels) { return random_values(channels, 8, 0.25, 4); }

template <class T>
std::vector<float> run_forward(TestGpu& gpu, const ConvProblem& p, const ConvType& type,
                               const ForwardOptions& o, const std::vector<float>& bias,
                               const std::vector<float>& before) {
  const ConvShape& s = p.shape;
  const float nan = undefined(1)[0];  // between pixels: read, it shows in the sums
  const DeviceArrayOf<T> x(gpu, pack<T>(spread(p.x, s.ic, o.x_gap, nan)), o.x_offset),
      w(gpu, pack<T>(p.w), o.w_offset);
  const bool keeps = o.accumulate || o.in_place;
  const std::vector<T> y_before = pack<T>(spread(
      keeps ? before : undefined(static_cast<int64_t>(before.size())), s.oc, o.y_gap, 77.0f));
  const DeviceArrayOf<T> y(gpu, y_before, o.y_offset);
  const DeviceArrayOf<T> r(gpu, pack<T>(spread(before, s.oc, o.r_gap, nan)));
  const DeviceArray b(gpu, bias), g(gpu, gains(s.oc));
  ConvForward f{.shape = p.shape,
                .x = x.data(),
                .w = w.data(),
                .bias = o.bias ? b.data() : nullptr,
                .y = y.data(),
                .accumulate = o.accumulate,
                .epilogue = epilogue(o),
                .gain = o.gain ? g.data() : nullptr};
  if (o.residual) f.residual = o.in_place ? y.data() : r.data();
  f.dtype = type.dtype;
  f.precision = type.precision;
  if (o.x_gap) f.x_pitch = s.ic + o.x_gap;
  if (o.y_gap) f.y_pitch = s.oc + o.y_gap;
  if (o.residual && !o.in_place && o.r_gap) f.residual_pitch = s.oc + o.r_gap;
  if (o.in_place) f.residual_pitch = f.y_pitch;
  start(gpu, cuda::conv_forward, f);
  x.require_unchanged();
  w.require_unchanged();
  r.require_unchanged();
  b.require_unchanged();
  const std::vector<float> all = unpack(y.values());
  for (size_t i = 0; i < all.size(); ++i)
    if (static_cast<int64_t>(i) % (s.oc + o.y_gap) >= s.oc) REQUIRE(all[i] == 77.0f);
  return gathered(all, s.oc, o.y_gap);
}

double apply(Activation a, double x) {
  switch (a) {
    case Activation::kReLU:
      return std::max(x, 0.0);
    case Activation::kSiLU:
      return x / (1 + std::exp(-x));
    case Activation::kIdentity:
      return x;
    default:
      FAIL("no reference for " << name_of(a));
      return 0;
  }
}

void check_forward(TestGpu& gpu, const ConvShape& shape, const ConvType& type,
                   const ForwardOptions& o = {}) {
  CAPTURE_CONV(shape, type);
  CAPTURE(o.bias, name_of(o.act), o.residual, o.in_place, o.accumulate, o.x_offset, o.w_offset,
          o.y_offset, o.x_gap, o.y_gap, o.r_gap, o.residual_scale, o.residual_first);
  const ConvProblem p(shape, type.dtype);
  const std::vector<float> bias = random_values(shape.oc, 4, -1, 1);
  const std::vector<float> before = random_of(type.dtype, shape.y_numel(), 5);
  Sums expected = p.forward();
  for (size_t i = 0; i < before.size(); ++i) {
    double& v = expected.value[i];
    double& m = expected.magnitude[i];
    const double b = bias[i % static_cast<size_t>(shape.oc)];
    if (o.bias) v += b, m += std::abs(b);
    const double r = o.residual || o.accumulate ? double{before[i]} * o.residual_scale : 0.0;
    m += std::abs(r);
    if (o.residual_first) v += r;
    v = apply(o.act, v);
    if (o.gain) {
      const double gain = gains(shape.oc)[i % static_cast<size_t>(shape.oc)];
      v *= gain;
      m *= gain;
    }
    if (!o.residual_first) v += r;
  }
  std::vector<float> first;
  for (const uint64_t seed : gpu.seeds()) {
    gpu.start(seed);
    const std::vector<float> y = with_type(type.dtype, [&](auto t) {
      return run_forward<decltype(t)>(gpu, p, type, o, bias, before);
    });
    if (first.empty()) {
      first = y;
      CHECK(worst_error(y, expected, type.dtype) < kConvTolerance);
    }
    CHECK(same_bits(y, first));
  }
  if (type.dtype != DType::kF32 || o.gain || o.residual || o.act == Activation::kSiLU) return;
  std::vector<float> twin = before;
  host_kernels().conv_forward({shape, p.x.data(), p.w.data(), o.bias ? bias.data() : nullptr,
                               twin.data(), o.accumulate, epilogue(o)});
  CHECK(worst_error(twin, expected, type.dtype) < kConvTolerance);
}

}  // namespace

// Forward over dtypes x shapes, with epilogues; every tile shape.
KERNEL_CASE("convolution forward kernels") {
  for (const ConvType& type : conv_types()) {
    for (const ConvShape& s : ragged_shapes()) check_forward(gpu, s, type);
    for (const ConvShape& s : even_shapes()) check_forward(gpu, s, type);
  }
}

KERNEL_CASE("convolution forward kernels: epilogues, alignment") {
  const ConvShape even = ConvShape{1, 5, 6, 16, 72, 3, 3, 1, 1, 1};
  const ConvShape ragged = ConvShape{1, 5, 6, 3, 17, 3, 3, 2, 1, 1};
  for (const ConvType& type : {kHalf, kBrain, kTensorFloat}) {
    for (const ConvShape& s : {even, ragged}) {
      check_forward(gpu, s, type, {.bias = true, .act = Activation::kReLU});
      check_forward(gpu, s, type, {.bias = true, .act = Activation::kSiLU, .residual = true});
      check_forward(gpu, s, type, {.accumulate = true});
    }
    check_forward(gpu, even, type, {.bias = true, .residual = true, .in_place = true});
    for (const ConvShape& s : {even, ragged})
      check_forward(gpu, s, type,
                    {.bias = true, .act = Activation::kSiLU, .residual = true, .gain = true});
    check_forward(gpu, even, type, {.x_offset = 1});
    check_forward(gpu, even, type, {.w_offset = 2});
    check_forward(gpu, even, type, {.bias = true, .residual = true, .y_offset = 3});
  }
}

KERNEL_CASE("convolution forward kernels: pitches, scaled residuals") {
  const ConvShape even = ConvShape{1, 5, 6, 16, 72, 3, 3, 1, 1, 1};
  const ConvShape ragged = ConvShape{3, 5, 6, 3, 17, 3, 3, 2, 1, 1};
  for (const ConvType& type : {kHalf, kTensorFloat})
    for (const ConvShape& s : {even, ragged})
      for (const int64_t gap : {1, 8}) {
        check_forward(gpu, s, type, {.bias = true, .x_gap = gap, .y_gap = 2 * gap});
        check_forward(gpu, s, type,
                      {.act = Activation::kReLU,
                       .residual = true,
                       .y_gap = gap,
                       .r_gap = 3 * gap,
                       .residual_scale = -0.37f,
                       .residual_first = true});
        check_forward(
            gpu, s, type,
            {.act = Activation::kReLU, .residual = true, .r_gap = gap, .residual_scale = 0.6f});
        check_forward(gpu, s, type, {.residual = true, .in_place = true, .y_gap = gap});
      }
  check_forward(gpu, even, kHalf, {.accumulate = true, .y_gap = 8});
}

KERNEL_CASE("depthwise convolution forward kernels") {
  for (const ConvType& type : {kHalf, kBrain, kFloat})
    for (const ConvShape& s : depthwise_shapes()) {
      check_forward(gpu, s, type);
      check_forward(gpu, s, type,
                    {.bias = true, .act = Activation::kReLU, .residual = true, .gain = true});
    }
  const ConvShape even{1, 5, 6, 16, 16, 3, 3, 1, 1, 16};
  for (const ConvType& type : {kHalf, kFloat}) {
    check_forward(gpu, even, type, {.bias = true, .x_gap = 8, .y_gap = 16});
    check_forward(gpu, even, type, {.bias = true, .x_gap = 3, .y_gap = 1});
    check_forward(gpu, even, type, {.accumulate = true, .x_offset = 1, .w_offset = 1});
    check_forward(gpu, even, type, {.residual = true, .in_place = true, .y_offset = 3});
  }
}

KERNEL_CASE("convolution kernels refuse bad parameters") {
  gpu.start(gpu.seeds().front());
  ConvForward f;
  const auto forward = [&] { return error_of([&] { start(gpu, cuda::conv_forward, f); }); };
  f.shape = {1, 4, 4, 8, 8, 3, 3, 1, 1, 2};
  CHECK(forward() ==
        "conv_forward: 2 groups for 8 channels to 8, must be 1, or as many as both (depthwise)");
  f.shape = {1, 2, 4, 8, 8, 3, 3, 1, 0, 1};
  CHECK(forward() ==
        "conv_forward: input [1,2,4,8], weight [8,3,3,8], stride 1, padding 0: no output");
  f.shape.pad = 1;
  f.dtype = DType::kF64;
  CHECK(forward() == "conv_forward: dtype F64, must be F32, F16 or BF16");
  f.dtype = DType::kF32;
  f.x_pitch = 7;
  CHECK(forward() == "conv_forward: pitch 7 of x, which has 8 channels");
  f.epilogue.activation_scale = 0.5f;
  CHECK(forward() == "conv_forward: activation_scale 0.5, must be 1");
  f.accumulate = true;
  f.epilogue.activation = Activation::kReLU;
  CHECK(forward() == "conv_forward: accumulate excludes bias, residual and activation");
  ConvBackwardData d;
  d.shape.groups = 3;
  CHECK(error_of([&] { start(gpu, cuda::conv_backward_data, d); }) ==
        "conv_backward_data: 3 groups for 1 channels to 1, must be 1, or as many as both "
        "(depthwise)");
  ConvBackwardWeight w;
  w.dtype = DType::kI8;
  CHECK(error_of([&] { start(gpu, cuda::conv_backward_weight, w); }) ==
        "conv_backward_weight: dtype I8, must be F32, F16 or BF16");
  ConvInt8Forward q;
  const auto integer = [&] { return error_of([&] { start(gpu, cuda::conv_int8_forward, q); }); };
  q.x_type = DType::kF32;
  CHECK(integer() == "conv_int8_forward: x is F32, must be I8 or U8");
  q.y_type = DType::kI32;
  CHECK(integer() == "conv_int8_forward: y is I32, must be I8, U8 or F32");
  q.shape = {1, 3, 3, 8000, 1, 3, 3, 1, 1, 1};
  CHECK(integer() == "conv_int8_forward: weight [1,3,3,8000]: more than 65536 terms");
}

}  // namespace sextant::test
