#include <cmath>

#include "simt/cases.h"
#include "simt/conv_reference.h"

namespace sextant::test {
namespace {

using namespace sextant::kernels;

constexpr double kTolerance = 1e-5;  // of the sum of magnitudes, before the result is rounded

struct Type {
  DType dtype;
  ConvPrecision precision;
};
constexpr Type kHalf{DType::kF16, ConvPrecision::k3xTF32};
constexpr Type kBrain{DType::kBF16, ConvPrecision::k3xTF32};
constexpr Type kTensorFloat{DType::kF32, ConvPrecision::k3xTF32};
constexpr Type kFloat{DType::kF32, ConvPrecision::kFma};
const std::vector<Type> kTypes = {kHalf, kBrain, kTensorFloat, kFloat};

struct Shape4 {
  int64_t n, h, w, ic, oc, kh, kw, stride, pad;
  operator ConvShape() const { return {n, h, w, ic, oc, kh, kw, stride, pad, 1}; }
};
// One pixel; RGB; heads of 17, 68, 85 channels; 4 and 12 channels (pieces of 8 bytes in 16 bits);
// odd sizes, stride 2, kernels that are not square.
const std::vector<ConvShape> kRagged = {
    Shape4{1, 1, 1, 1, 1, 1, 1, 1, 0},   Shape4{1, 1, 1, 8, 8, 3, 3, 1, 1},
    Shape4{3, 5, 7, 3, 16, 3, 3, 2, 1},  Shape4{1, 6, 5, 17, 68, 3, 3, 1, 1},
    Shape4{1, 7, 5, 68, 17, 1, 1, 2, 0}, Shape4{1, 5, 4, 12, 4, 2, 3, 2, 1},
    Shape4{1, 8, 9, 16, 85, 1, 1, 1, 0}, Shape4{1, 3, 3, 2, 3, 3, 3, 1, 2}};
// Multiples of eight, with the edges of the tile shapes 64x64, 128x64, 128x32, 128x128 in both
// directions, and of k: 8, 40, 72, 288.
const std::vector<ConvShape> kEven = {
    Shape4{3, 9, 5, 8, 40, 3, 3, 2, 1}, Shape4{2, 9, 14, 32, 56, 3, 3, 1, 1},
    Shape4{1, 25, 10, 40, 24, 1, 1, 1, 0}, Shape4{1, 25, 10, 40, 120, 1, 1, 1, 0},
    Shape4{1, 7, 9, 8, 8, 1, 1, 2, 0}};

std::string name_of_type(const Type& t) {
  return std::string(name_of(t.dtype)) +
         (t.dtype != DType::kF32 ? "" : t.precision == ConvPrecision::kFma ? " fma" : " 3xtf32");
}

#define CAPTURE_CONV(s, type)                                                                  \
  CAPTURE(s.n, s.h, s.w, s.ic, s.oc, s.kh, s.kw, s.stride, s.pad, name_of_type(type))

// --- forward ------------------------------------------------------------------------------------

struct ForwardOptions {
  bool bias = false;
  Activation act = Activation::kIdentity;
  bool residual = false, in_place = false, accumulate = false;
  int64_t x_offset = 0, w_offset = 0, y_offset = 0;  // elements
};

template <class T>
std::vector<float> run_forward(Backend& backend, const ConvProblem& p, const Type& type,
                               const ForwardOptions& o, const std::vector<float>& bias,
                               const std::vector<float>& before) {
  const DeviceArrayOf<T> x(backend, pack<T>(p.x), o.x_offset), w(backend, pack<T>(p.w), o.w_offset);
  const bool keeps = o.accumulate || o.in_place;
  const DeviceArrayOf<T> y(backend,
                           pack<T>(keeps ? before : undefined(static_cast<int64_t>(before.size()))),
                           o.y_offset);
  const DeviceArrayOf<T> r(backend, pack<T>(before));
  const DeviceArray b(backend, bias);
  ConvForward f{p.shape, x.data(), w.data(), o.bias ? b.data() : nullptr, y.data(), o.accumulate,
                o.act};
  if (o.residual) f.residual = o.in_place ? y.data() : r.data();
  f.dtype = type.dtype;
  f.precision = type.precision;
  cuda::conv_forward(f, backend.stream());
  x.require_unchanged();
  w.require_unchanged();
  r.require_unchanged();
  b.require_unchanged();
  return unpack(y.values());
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

void check_forward(Backend& backend, const ConvShape& shape, const Type& type,
                   const ForwardOptions& o = {}) {
  CAPTURE_CONV(shape, type);
  CAPTURE(o.bias, name_of(o.act), o.residual, o.in_place, o.accumulate, o.x_offset, o.w_offset,
          o.y_offset);
  const ConvProblem p(shape, type.dtype);
  const std::vector<float> bias = random_values(shape.oc, 4, -1, 1);
  const std::vector<float> before = random_of(type.dtype, shape.y_numel(), 5);
  Sums expected = p.forward();
  for (size_t i = 0; i < before.size(); ++i) {
    double& v = expected.value[i];
    double& m = expected.magnitude[i];
    const double b = bias[i % static_cast<size_t>(shape.oc)];
    if (o.bias) v += b, m += std::abs(b);
    v = apply(o.act, v);
    if (o.residual || o.accumulate) v += before[i], m += std::abs(before[i]);
  }
  std::vector<float> first;
  for (const uint64_t seed : backend.seeds()) {
    backend.start(seed);
    const std::vector<float> y = with_type(type.dtype, [&](auto t) {
      return run_forward<decltype(t)>(backend, p, type, o, bias, before);
    });
    if (first.empty()) {
      first = y;
      CHECK(worst_error(y, expected, type.dtype) < kTolerance);
    }
    CHECK(same_bits(y, first));
  }
  if (type.dtype != DType::kF32 || o.residual || o.act == Activation::kSiLU) return;
  std::vector<float> twin = before;
  cpu::conv_forward({shape, p.x.data(), p.w.data(), o.bias ? bias.data() : nullptr, twin.data(),
                     o.accumulate, o.act});
  CHECK(worst_error(twin, expected, type.dtype) < kTolerance);
}

}  // namespace

void conv_forward_cases(Backend& backend) {
  for (const Type& type : kTypes) {
    for (const ConvShape& s : kRagged) check_forward(backend, s, type);
    for (const ConvShape& s : kEven) check_forward(backend, s, type);
  }
}

void conv_forward_option_cases(Backend& backend) {
  const ConvShape even = Shape4{1, 5, 6, 16, 72, 3, 3, 1, 1};
  const ConvShape ragged = Shape4{1, 5, 6, 3, 17, 3, 3, 2, 1};
  for (const Type& type : {kHalf, kBrain, kTensorFloat}) {
    for (const ConvShape& s : {even, ragged}) {
      check_forward(backend, s, type, {.bias = true, .act = Activation::kReLU});
      check_forward(backend, s, type,
                    {.bias = true, .act = Activation::kSiLU, .residual = true});
      check_forward(backend, s, type, {.accumulate = true});
    }
    check_forward(backend, even, type, {.bias = true, .residual = true, .in_place = true});
    check_forward(backend, even, type, {.x_offset = 1});
    check_forward(backend, even, type, {.w_offset = 2});
    check_forward(backend, even, type, {.bias = true, .residual = true, .y_offset = 3});
  }
}

void conv_refusal_cases(Backend& backend) {
  backend.start(backend.seeds().front());
  ConvForward f;
  const auto forward = [&] {
    return error_of([&] { cuda::conv_forward(f, backend.stream()); });
  };
  f.shape = {1, 4, 4, 8, 8, 3, 3, 1, 1, 2};
  CHECK(forward() == "conv_forward: 2 groups, must be 1");
  f.shape = {1, 2, 4, 8, 8, 3, 3, 1, 0, 1};
  CHECK(forward() ==
        "conv_forward: input [1,2,4,8], weight [8,3,3,8], stride 1, padding 0: no output");
  f.shape.pad = 1;
  f.dtype = DType::kF64;
  CHECK(forward() == "conv_forward: dtype F64, must be F32, F16 or BF16");
  f.accumulate = true;
  f.act = Activation::kReLU;
  CHECK(forward() == "conv_forward: accumulate goes without bias, residual and activation");
}

}  // namespace sextant::test
