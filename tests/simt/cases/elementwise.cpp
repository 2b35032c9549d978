// SPDX-License-Identifier: Apache-2.0
#include "kernels/elementwise.h"

#include <cmath>

#include "kernels/branch_sum.h"
#include "kernels/pool.h"
#include "kernels/rep_bn_act.h"
#include "simt/cases/cases.h"
#include "simt/stored.h"

namespace sextant::test {
namespace {

using namespace sextant::kernels;

// The device's expf and the CPU's polynomial are within 2 ulp of e^x.
constexpr double kTolerance = 2e-6;
// One element, around the pack of four, around a warp, a block; 20,001 reaches the second and third
// turn of the loop on the SIMT runner, which claims two multiprocessors (60,001 in packs of eight).
const std::vector<int64_t> kLengths = {1, 3, 4, 5, 31, 33, 1023, 1025, 20001};
const std::vector<int64_t> kHalfLengths = {1, 7, 8, 9, 1025, 60001};

double sigmoid_of(double x) { return 1.0 / (1.0 + std::exp(-x)); }

// From the textbook definitions, not from kernels/math/activation.h.
double activation_reference(Activation a, double x) {
  switch (a) {
    case Activation::kIdentity:
      return x;
    case Activation::kReLU:
      return std::max(x, 0.0);
    case Activation::kLeakyReLU:
      return x > 0 ? x : double{kLeakySlope} * x;
    case Activation::kSiLU:
      return x * sigmoid_of(x);
    case Activation::kHardswish:
      return x * std::min(std::max(x + 3.0, 0.0), 6.0) / 6.0;
    case Activation::kSigmoid:
      return sigmoid_of(x);
    case Activation::kMish:
      return x * std::tanh(std::log1p(std::exp(x)));
    case Activation::kReLU6:
      return std::clamp(x, 0.0, 6.0);
    case Activation::kHardSigmoid:
      return std::clamp(x / 6.0 + 0.5, 0.0, 1.0);
  }
  return 0;
}
double activation_gradient(Activation a, double x) {
  const double s = sigmoid_of(x);
  switch (a) {
    case Activation::kIdentity:
      return 1;
    case Activation::kReLU:
      return x > 0 ? 1 : 0;
    case Activation::kLeakyReLU:
      return x > 0 ? 1 : double{kLeakySlope};
    case Activation::kSiLU:
      return s + x * s * (1 - s);
    case Activation::kHardswish:
      return x < -3 ? 0 : (x > 3 ? 1 : (2 * x + 3) / 6);
    case Activation::kSigmoid:
      return s * (1 - s);
    case Activation::kMish: {
      const double t = std::tanh(std::log1p(std::exp(x)));
      return t + x * (1 - t * t) * s;
    }
    case Activation::kReLU6:
      return x > 0 && x < 6 ? 1 : 0;
    case Activation::kHardSigmoid:
      return x > -3 && x < 3 ? 1 / 6.0 : 0;
  }
  return 0;
}

std::vector<float> inputs(int64_t n, uint64_t seed) {
  std::vector<float> x = random_values(n, seed, -8, 8);
  const float edges[] = {0.0f, -0.0f, 60.0f, -60.0f, 3.5f, -3.5f};
  for (size_t i = 0; i < std::size(edges) && i + 3 < x.size(); ++i) x[i + 3] = edges[i];
  return x;
}

template <class T>
void check_activation(TestGpu& gpu, Activation act, int64_t n, int64_t offset) {
  CAPTURE(name_of(act), n, offset, name_of(Stored<T>::kType));
  const std::vector<float> x = rounded<T>(inputs(n, 7)),
                           dy = rounded<T>(random_values(n, 8, -2, 2));
  std::vector<double> y_ref, dx_ref;
  for (size_t i = 0; i < x.size(); ++i) {
    y_ref.push_back(activation_reference(act, x[i]));
    dx_ref.push_back(dy[i] * activation_gradient(act, x[i]));
  }
  std::vector<float> y_cpu = undefined(n), dx_cpu = undefined(n);
  host_kernels().act_forward({x.data(), y_cpu.data(), n, act});
  host_kernels().act_backward({x.data(), dy.data(), dx_cpu.data(), n, act});

  // x is offset, the outputs are not: the pack width has to come from all pointers.
  const DeviceArrayOf<T> xd(gpu, pack<T>(x), offset), dyd(gpu, pack<T>(dy)),
      y(gpu, pack<T>(undefined(n))), dx(gpu, pack<T>(undefined(n)));
  constexpr DType kType = Stored<T>::kType;
  start(gpu, cuda::act_forward, {xd.data(), y.data(), n, act, kType});
  start(gpu, cuda::act_backward, {xd.data(), dyd.data(), dx.data(), n, act, kType});
  CHECK(worst_error_as<T>(unpack(y.values()), y_ref) < kTolerance);
  CHECK(worst_error_as<T>(unpack(y.values()), y_cpu) < kTolerance);
  CHECK(worst_error_as<T>(unpack(dx.values()), dx_ref) < kTolerance);
  CHECK(worst_error_as<T>(unpack(dx.values()), dx_cpu) < kTolerance);
  xd.require_unchanged();
  dyd.require_unchanged();
}

template <class T>
void check_add(TestGpu& gpu, int64_t n, int64_t offset) {
  CAPTURE(n, offset, name_of(Stored<T>::kType));
  const std::vector<float> a = rounded<T>(random_values(n, 1, -3, 3)),
                           b = rounded<T>(random_values(n, 2, -3, 3));
  std::vector<double> ref;
  for (size_t i = 0; i < a.size(); ++i) ref.push_back(0.75 * a[i] - 1.5 * b[i]);
  std::vector<float> twin = undefined(n);
  host_kernels().add_scaled({a.data(), b.data(), twin.data(), n, 0.75f, -1.5f});
  const DeviceArrayOf<T> ad(gpu, pack<T>(a)), bd(gpu, pack<T>(b)),
      y(gpu, pack<T>(undefined(n)), offset);
  start(gpu, cuda::add_scaled, {ad.data(), bd.data(), y.data(), n, 0.75f, -1.5f, Stored<T>::kType});
  CHECK(worst_error_as<T>(unpack(y.values()), ref) < 1e-6);
  CHECK(worst_error_as<T>(unpack(y.values()), twin) < 1e-6);

  // The same factors, in part from memory: 0.75 = 3 * 0.25, -1.5 = -3 * 0.5.
  const std::vector<float> factors = {0.25f, 0.5f};
  const DeviceArray fd(gpu, factors);
  std::vector<float> parted = undefined(n);
  host_kernels().add_scaled({.a = a.data(),
                             .b = b.data(),
                             .y = parted.data(),
                             .n = n,
                             .alpha = 3.0f,
                             .beta = -3.0f,
                             .alpha_at = &factors[0],
                             .beta_at = &factors[1]});
  CHECK(same_bits(parted, twin));
  AddScaled p{.a = ad.data(),
              .b = bd.data(),
              .y = y.data(),
              .n = n,
              .alpha = 3.0f,
              .beta = -3.0f,
              .dtype = Stored<T>::kType};
  p.alpha_at = fd.data();
  p.beta_at = fd.data() + 1;
  start(gpu, cuda::add_scaled, p);
  CHECK(worst_error_as<T>(unpack(y.values()), ref) < 1e-6);
  p.alpha = 0.75f;
  p.alpha_at = nullptr;
  start(gpu, cuda::add_scaled, p);
  CHECK(worst_error_as<T>(unpack(y.values()), ref) < 1e-6);
  fd.require_unchanged();
  ad.require_unchanged();
  bd.require_unchanged();
}

}  // namespace

KERNEL_CASE("elementwise kernels") {
  for (const uint64_t seed : gpu.seeds()) {
    gpu.start(seed);
    each_type([&](auto type) {
      using T = decltype(type);
      for (const int64_t n : sizeof(T) < 4 ? kHalfLengths : kLengths)
        for (const int64_t offset : {0, 1}) {
          check_add<T>(gpu, n, offset);
          for (const auto& [act, name] : enum_names(Activation{}).rows)
            if (n < 10000 || act == Activation::kSiLU) check_activation<T>(gpu, act, n, offset);
        }
    });
  }
}

KERNEL_CASE("elementwise kernels in place") {
  for (const uint64_t seed : gpu.seeds()) {
    gpu.start(seed);
    const int64_t n = 20001;
    const std::vector<float> x = inputs(n, 3), dy = random_values(n, 4, -2, 2);
    const Activation act = Activation::kHardswish;
    std::vector<float> y_cpu = undefined(n), dx_cpu = undefined(n), sum = undefined(n);
    host_kernels().act_forward({x.data(), y_cpu.data(), n, act});
    host_kernels().act_backward({x.data(), dy.data(), dx_cpu.data(), n, act});
    host_kernels().add_scaled({x.data(), dy.data(), sum.data(), n, 2.0f, -1.0f});

    const DeviceArray y(gpu, x), dx(gpu, dy), a(gpu, x), x_in(gpu, x), b(gpu, dy);
    start(gpu, cuda::act_forward, {y.data(), y.data(), n, act});
    start(gpu, cuda::act_backward, {x_in.data(), dx.data(), dx.data(), n, act});
    start(gpu, cuda::add_scaled, {a.data(), b.data(), a.data(), n, 2.0f, -1.0f});
    CHECK(worst_error(y.values(), y_cpu) < kTolerance);
    CHECK(worst_error(dx.values(), dx_cpu) < kTolerance);
    CHECK(worst_error(a.values(), sum) < kTolerance);

    // Nothing to do: nothing is touched, no launch is refused.
    const DeviceArray none(gpu, undefined(4));
    start(gpu, cuda::act_forward, {none.data(), none.data(), 0, act});
    none.require_unchanged();
  }
}

// So do types: 16 bits on the CPU, f64 on either.
KERNEL_CASE("kernels refuse types") {
  gpu.start(gpu.seeds().front());
  const auto refuses = [&](const char* name, auto p, auto on_cpu, auto on_cuda) {
    CAPTURE(name);
    p.dtype = DType::kBF16;
    CHECK(error_of([&] { on_cpu(p); }) ==
          std::string(name) + ": dtype BF16, must be F32 on the CPU");
    p.dtype = DType::kF64;
    CHECK(error_of([&] { on_cuda(p); }) ==
          std::string(name) + ": dtype F64, must be F32, F16 or BF16");
  };
#define REFUSES(function, Parameters)                                           \
  refuses(                                                                      \
      #function, Parameters, [](const auto& p) { host_kernels().function(p); }, \
      [&](const auto& p) { start(gpu, cuda::function, p); })
  REFUSES(act_forward, ActForward{});
  REFUSES(act_backward, ActBackward{});
  REFUSES(add_scaled, AddScaled{});
  REFUSES(branch_sum, BranchSum{});
  ChannelDot dot;
  dot.channels = 1;
  REFUSES(channel_dot, dot);
  REFUSES(max_pool_forward, MaxPoolForward{});
  MaxPoolBackward gradient;
  gradient.kernel = gradient.stride = 1;
  REFUSES(max_pool_backward, gradient);
  REFUSES(chained_max_pools, ChainedMaxPools{});
  REFUSES(average_pool, AveragePool{});
  REFUSES(upsample_forward, Upsample{});
  REFUSES(upsample_backward, Upsample{});
  RepBnActForward forward;
  RepBnActBackward backward;
  forward.rows = backward.rows = 2;
  forward.channels = backward.channels = 4;
  REFUSES(rep_bn_act_forward, forward);
  REFUSES(rep_bn_act_backward, backward);
#undef REFUSES
}

}  // namespace sextant::test
