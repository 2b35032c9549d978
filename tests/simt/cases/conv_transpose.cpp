// SPDX-License-Identifier: Apache-2.0
#include "kernels/conv.h"
#include "simt/cases/cases.h"
#include "simt/cases/conv_reference.h"

namespace sextant::test {
namespace {

using namespace sextant::kernels;

// A transposed convolution with random data that the type holds exactly, and its results in double
// from the definition.
struct TransposeProblem {
  ConvTransposeShape s;
  std::vector<float> x, w, dy, bias;
  TransposeProblem(const ConvTransposeShape& shape, DType dtype)
      : s(shape),
        x(random_of(dtype, s.n * s.h * s.w * s.ic, 1)),
        w(random_of(dtype, s.oc * s.k * s.k * s.ic, 2)),
        dy(random_of(dtype, s.y_numel(), 3)),
        bias(random_values(s.oc, 4, -1, 1)) {}

  // f(x index, w index, y index) for each product.
  template <class F>
  void each_product(const F& f) const {
    for (int64_t i = 0; i < static_cast<int64_t>(x.size()); ++i) {
      const int64_t c = i % s.ic, column = i / s.ic % s.w, row = i / s.ic / s.w;  // of all images
      for (int64_t o = 0; o < s.oc; ++o)
        for (int64_t t = 0; t < s.k * s.k; ++t) {
          const int64_t y = row * s.k + t / s.k, xx = column * s.k + t % s.k;
          f(i, (o * s.k * s.k + t) * s.ic + c, (y * s.w * s.k + xx) * s.oc + o);
        }
    }
  }
  static double at(const std::vector<float>& v, int64_t i) { return v[static_cast<size_t>(i)]; }
};

template <class T>
void check_transpose(TestGpu& gpu, const TransposeProblem& p, const ConvType& type, bool biased,
                     int64_t offset) {
  const ConvTransposeShape& s = p.s;
  CAPTURE(s.n, s.h, s.w, s.ic, s.oc, s.k, name_of_type(type), biased, offset);
  const auto count = [](const std::vector<float>& v) { return static_cast<int64_t>(v.size()); };
  Sums y(s.y_numel()), dx(count(p.x)), dw(count(p.w)), db(s.oc);
  p.each_product([&](int64_t ix, int64_t iw, int64_t iy) {
    y.add(iy, TransposeProblem::at(p.x, ix) * TransposeProblem::at(p.w, iw));
    dx.add(ix, TransposeProblem::at(p.dy, iy) * TransposeProblem::at(p.w, iw));
    dw.add(iw, TransposeProblem::at(p.dy, iy) * TransposeProblem::at(p.x, ix));
  });
  for (int64_t i = 0; i < s.y_numel(); ++i) {
    if (biased) y.add(i, TransposeProblem::at(p.bias, i % s.oc));
    db.add(i % s.oc, TransposeProblem::at(p.dy, i));
  }
  const DeviceArrayOf<T> xd(gpu, pack<T>(p.x), offset), wd(gpu, pack<T>(p.w)),
      dyd(gpu, pack<T>(p.dy)), yd(gpu, pack<T>(undefined(s.y_numel())), offset),
      dxd(gpu, pack<T>(undefined(count(p.x))));
  const DeviceArray bd(gpu, p.bias), dwd(gpu, undefined(count(p.w))), dbd(gpu, undefined(s.oc)),
      alone(gpu, undefined(s.oc));
  start(gpu, cuda::conv_transpose_forward,
        {s, xd.data(), wd.data(), biased ? bd.data() : nullptr, yd.data(), type.dtype,
         type.precision});
  start(gpu, cuda::conv_transpose_backward,
        {s, xd.data(), wd.data(), dyd.data(), dxd.data(), dwd.data(), dbd.data(), type.dtype,
         type.precision});
  start(gpu, cuda::conv_transpose_backward,
        {s, xd.data(), wd.data(), dyd.data(), nullptr, nullptr, alone.data(), type.dtype,
         type.precision});
  CHECK(worst_error(unpack(yd.values()), y, type.dtype) < kConvTolerance);
  CHECK(worst_error(unpack(dxd.values()), dx, type.dtype) < kConvTolerance);
  CHECK(worst_error(dwd.values(), dw, DType::kF32) < kConvTolerance);
  CHECK(worst_error(dbd.values(), db, DType::kF32) < kConvTolerance);
  CHECK(same_bits(alone.values(), dbd.values()));
  xd.require_unchanged();
  wd.require_unchanged();
  dyd.require_unchanged();
  bd.require_unchanged();
  if (type.dtype != DType::kF32) return;
  std::vector<float> y_cpu = undefined(s.y_numel()), dx_cpu = undefined(count(p.x)),
                     dw_cpu = undefined(count(p.w)), db_cpu = undefined(s.oc);
  host_kernels().conv_transpose_forward(
      {s, p.x.data(), p.w.data(), biased ? p.bias.data() : nullptr, y_cpu.data()});
  host_kernels().conv_transpose_backward(
      {s, p.x.data(), p.w.data(), p.dy.data(), dx_cpu.data(), dw_cpu.data(), db_cpu.data()});
  CHECK(worst_error(y_cpu, y, DType::kF32) < kConvTolerance);
  CHECK(worst_error(dx_cpu, dx, DType::kF32) < kConvTolerance);
  CHECK(worst_error(dw_cpu, dw, DType::kF32) < kConvTolerance);
  CHECK(worst_error(db_cpu, db, DType::kF32) < kConvTolerance);
}

}  // namespace

// Up-sampling by a transposed convolution, over dtypes x shapes.
KERNEL_CASE("transposed convolution kernels") {
  const std::vector<ConvTransposeShape> shapes = {{1, 1, 1, 1, 1, 2},   {3, 2, 3, 3, 17, 2},
                                                  {1, 5, 4, 16, 8, 2},  {2, 3, 3, 68, 17, 2},
                                                  {1, 9, 8, 64, 72, 2}, {1, 2, 2, 8, 8, 3}};
  for (const uint64_t seed : gpu.seeds()) {
    gpu.start(seed);
    for (const ConvType& type : conv_types())
      for (const ConvTransposeShape& s : shapes) {
        const TransposeProblem p(s, type.dtype);
        with_type(type.dtype, [&](auto t) {
          check_transpose<decltype(t)>(gpu, p, type, s.h != 2, 0);
          if (s.ic == 16) check_transpose<decltype(t)>(gpu, p, type, false, 1);
          return 0;
        });
      }
  }
  ConvTransposeForward p;
  p.shape.h = 0;
  CHECK(error_of([&] { start(gpu, cuda::conv_transpose_forward, p); }) ==
        "conv_transpose_forward: input [1,0,1,1], weight [1,2,2,1]: no output");
}

}  // namespace sextant::test
