// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "simt/cases/cases.h"
#include "simt/cases/conv_reference.h"

namespace sextant::test {
namespace {

using namespace sextant::kernels;

struct DataOptions {
  bool accumulate = false;
  int64_t dy_offset = 0, w_offset = 0, dx_offset = 0;  // elements
};

template <class T>
std::vector<float> run_data(TestGpu& gpu, const ConvProblem& p, const ConvType& type,
                            const DataOptions& o, const std::vector<float>& before) {
  const DeviceArrayOf<T> dy(gpu, pack<T>(p.dy), o.dy_offset), w(gpu, pack<T>(p.w), o.w_offset);
  const DeviceArrayOf<T> dx(
      gpu, pack<T>(o.accumulate ? before : undefined(static_cast<int64_t>(before.size()))),
      o.dx_offset);
  start(gpu, cuda::conv_backward_data,
        {p.shape, dy.data(), w.data(), dx.data(), o.accumulate, type.dtype, type.precision});
  dy.require_unchanged();
  w.require_unchanged();
  return unpack(dx.values());
}

void check_data(TestGpu& gpu, const ConvShape& shape, const ConvType& type,
                const DataOptions& o = {}) {
  CAPTURE_CONV(shape, type);
  CAPTURE(o.accumulate, o.dy_offset, o.w_offset, o.dx_offset);
  const ConvProblem p(shape, type.dtype);
  const std::vector<float> before = random_of(type.dtype, shape.x_numel(), 5);
  Sums expected = p.data_gradient();
  if (o.accumulate)
    for (size_t i = 0; i < before.size(); ++i) expected.add(static_cast<int64_t>(i), before[i]);
  std::vector<float> first;
  for (const uint64_t seed : gpu.seeds()) {
    gpu.start(seed);
    const std::vector<float> dx = with_type(
        type.dtype, [&](auto t) { return run_data<decltype(t)>(gpu, p, type, o, before); });
    if (first.empty()) {
      first = dx;
      CHECK(worst_error(dx, expected, type.dtype) < kConvTolerance);
    }
    CHECK(same_bits(dx, first));
  }
  if (type.dtype != DType::kF32) return;
  std::vector<float> twin = before;
  host_kernels().conv_backward_data({shape, p.dy.data(), p.w.data(), twin.data(), o.accumulate});
  CHECK(worst_error(twin, expected, type.dtype) < kConvTolerance);
}

struct WeightOptions {
  bool bias = true;
  int64_t x_offset = 0, dy_offset = 0, dw_offset = 0;  // elements
};
struct WeightResults {
  std::vector<float> dw, db;
};

template <class T>
WeightResults run_weight(TestGpu& gpu, const ConvProblem& p, const ConvType& type,
                         const WeightOptions& o) {
  const DeviceArrayOf<T> x(gpu, pack<T>(p.x), o.x_offset), dy(gpu, pack<T>(p.dy), o.dy_offset);
  const DeviceArray dw(gpu, undefined(p.shape.w_numel()), o.dw_offset);
  const DeviceArray db(gpu, undefined(p.shape.oc));
  start(gpu, cuda::conv_backward_weight,
        {p.shape, x.data(), dy.data(), dw.data(), o.bias ? db.data() : nullptr, type.dtype,
         type.precision});
  x.require_unchanged();
  dy.require_unchanged();
  if (!o.bias) db.require_unchanged();
  return {dw.values(), db.values()};
}

void check_weight(TestGpu& gpu, const ConvShape& shape, const ConvType& type,
                  const WeightOptions& o = {}) {
  CAPTURE_CONV(shape, type);
  CAPTURE(o.bias, o.x_offset, o.dy_offset, o.dw_offset);
  const ConvProblem p(shape, type.dtype);
  const Sums dw = p.weight_gradient(), db = p.bias_gradient();
  WeightResults first;
  for (const uint64_t seed : gpu.seeds()) {
    gpu.start(seed);
    const WeightResults r =
        with_type(type.dtype, [&](auto t) { return run_weight<decltype(t)>(gpu, p, type, o); });
    if (first.dw.empty()) {
      first = r;
      CHECK(worst_error(r.dw, dw, DType::kF32) < kConvTolerance);
      if (o.bias) CHECK(worst_error(r.db, db, DType::kF32) < kConvTolerance);
    }
    CHECK(same_bits(r.dw, first.dw));
    CHECK(same_bits(r.db, first.db));
  }
  if (type.dtype != DType::kF32) return;
  WeightResults twin{undefined(shape.w_numel()), undefined(shape.oc)};
  host_kernels().conv_backward_weight(
      {shape, p.x.data(), p.dy.data(), twin.dw.data(), twin.db.data()});
  CHECK(worst_error(twin.dw, dw, DType::kF32) < kConvTolerance);
}

}  // namespace

// Data, weight and bias gradients over dtypes x shapes.
KERNEL_CASE("convolution data gradient kernels") {
  const ConvShape even{1, 5, 6, 72, 16, 3, 3, 2, 1}, ragged{1, 4, 5, 17, 3, 3, 3, 1, 1};
  for (const ConvType& type : conv_types()) {
    for (const ConvShape& s : ragged_shapes()) check_data(gpu, s, type);
    for (const ConvShape& s : even_shapes()) check_data(gpu, s, type);
    for (const ConvShape& s : {even, ragged}) check_data(gpu, s, type, {.accumulate = true});
  }
  // A stride of 3 with a kernel of 2: phases without a tap, pixels that no output reads.
  for (const bool accumulate : {false, true})
    check_data(gpu, {1, 8, 7, 8, 8, 2, 2, 3, 0}, kHalf, {.accumulate = accumulate});
  check_data(gpu, even, kHalf, {.dy_offset = 2});
  check_data(gpu, even, kHalf, {.w_offset = 1});
  check_data(gpu, even, kTensorFloat, {.accumulate = true, .dx_offset = 1});
}

KERNEL_CASE("convolution weight gradient kernels") {
  for (const ConvType& type : conv_types()) {
    for (const ConvShape& s : ragged_shapes()) check_weight(gpu, s, type);
    for (const ConvShape& s : even_shapes()) check_weight(gpu, s, type);
  }
  // More pixels than a slice: three, the last shorter.
  for (const ConvType& type : {kHalf, kTensorFloat}) {
    check_weight(gpu, {1, 20, 21, 8, 16, 3, 3, 1, 1}, type);
    check_weight(gpu, {2, 19, 21, 3, 17, 3, 3, 1, 1}, type);
  }
  const ConvShape even{1, 12, 13, 16, 72, 1, 1, 1, 0};
  check_weight(gpu, even, kHalf, {.bias = false});
  check_weight(gpu, even, kHalf, {.x_offset = 1});
  check_weight(gpu, even, kBrain, {.dy_offset = 4, .dw_offset = 1});
  check_weight(gpu, even, kFloat, {.x_offset = 1});
}

KERNEL_CASE("depthwise convolution gradient kernels") {
  for (const ConvType& type : {kHalf, kBrain, kFloat})
    for (const ConvShape& s : depthwise_shapes()) {
      check_data(gpu, s, type);
      check_weight(gpu, s, type);
    }
  const ConvShape even{1, 12, 13, 16, 16, 3, 3, 2, 1, 16};
  check_data(gpu, even, kHalf, {.accumulate = true});
  check_data(gpu, even, kFloat, {.dy_offset = 1, .w_offset = 1, .dx_offset = 1});
  check_weight(gpu, even, kFloat, {.bias = false, .x_offset = 1, .dy_offset = 1, .dw_offset = 1});
  check_weight(gpu, {2, 20, 21, 40, 40, 5, 5, 1, 2, 40}, kHalf);  // several slices
}

}  // namespace sextant::test
