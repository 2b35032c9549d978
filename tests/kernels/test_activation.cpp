// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdint>

#include "kernels/backend.h"
#include "kernels/conv/conv_reference.h"
#include "kernels/cpu/isa.h"
#include "kernels/math/activation.h"
#include "kernels/rep_bn_act.h"
#include "support/support.h"

using namespace sextant;
using namespace sextant::kernels;

namespace {

// Calls f(a) for every activation.
template <class F>
void each_activation(const F& f) {
  for (const auto& [a, name] : enum_names(Activation{}).rows) {
    CAPTURE(name);
    f(a);
  }
}

}  // namespace

TEST_CASE("activation traits describe the functions") {
  each_activation([](Activation a) {
    const ActivationTraits traits = traits_of(a);
    bool homogeneous = true, negative = false;
    for (float x = -8.0f; x <= 8.0f; x += 0.125f) {
      const float y = activate(a, x);
      negative = negative || y < 0.0f;
      homogeneous = homogeneous && activate(a, 4.0f * x) == 4.0f * y;
    }
    CHECK(traits.homogeneous == homogeneous);
    CHECK(traits.never_negative == !negative);
    const float right = activate(a, 60.0f);
    CHECK(right == (std::isinf(traits.limit) ? 60.0f : traits.limit));
    if (!homogeneous) CHECK(std::abs(activate(a, -60.0f)) < 1e-20f);
  });
}

// By a batch-norm that changes nothing, for each instruction set.
TEST_CASE("activations of vectors are those of each element") {
  constexpr int64_t kRows = 150, kChannels = 37;
  const std::vector<float> zeros(kChannels, 0.0f), ones(kChannels, 1.0f),
      dy(kRows * kChannels, 1.0f);
  std::vector<float> mean = zeros, var = ones, dgamma = zeros, dbeta = zeros;
  std::vector<float> x = test::random_floats(kRows * kChannels, 1), y(x.size()), slope(x.size());
  for (float& v : x) v *= 9.0f;
  std::ranges::copy(
      std::array{0.0f, -0.0f, 3.0f, -3.0f, 6.0f, 20.0f, 21.0f, 87.5f, -87.5f, 100.0f, -100.0f},
      x.begin());
  for (const cpu::Isa isa : cpu::usable_isas()) {
    const cpu::ForcedIsa forced(isa);
    CAPTURE(name_of(isa));
    each_activation([&](Activation a) {
      RepBnActForward f;
      f.branch[0] = {x.data(),   ones.data(), zeros.data(), mean.data(),
                     var.data(), nullptr,     nullptr};
      f.y = y.data();
      f.rows = kRows;
      f.channels = kChannels;
      f.activation = a;
      f.eps = 0.0f;
      f.training = false;
      cpu::backend().rep_bn_act_forward(f);
      RepBnActBackward b;
      b.branch[0] = {x.data(),    ones.data(),  zeros.data(),  zeros.data(),
                     ones.data(), slope.data(), dgamma.data(), dbeta.data()};
      b.dy = dy.data();
      b.rows = kRows;
      b.channels = kChannels;
      b.activation = a;
      b.training = false;
      cpu::backend().rep_bn_act_backward(b);
      dispatch_activation(a, [&](auto tag) {
        constexpr Activation kA = decltype(tag)::value;
        for (size_t k = 0; k < x.size(); ++k) {
          CAPTURE(x[k]);
          REQUIRE(y[k] == Approx(activate<kA>(x[k])).epsilon(1e-6).margin(1e-6));
          REQUIRE(slope[k] == Approx(activate_grad<kA>(x[k])).epsilon(1e-6).margin(1e-6));
        }
      });
    });
  }
}

TEST_CASE("activations have names") {
  each_activation([](Activation a) { CHECK(from_name<Activation>(name_of(a)) == a); });
  CHECK_THROWS_WITH(from_name<Activation>("swish"),
                    "unknown activation 'swish'; use identity, relu, leaky_relu, silu, hardswish, "
                    "sigmoid, mish, relu6 or hard_sigmoid");
}
