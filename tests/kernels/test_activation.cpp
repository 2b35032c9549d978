// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdint>

#include "kernels/cpu/vec.h"
#include "kernels/math/activation.h"
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

TEST_CASE("activations of vectors are those of each element") {
  each_activation([](Activation a) {
    dispatch_activation(a, [](auto tag) {
      constexpr Activation kA = decltype(tag)::value;
      Rng rng(1);
      for (int i = 0; i < 200; ++i) {
        std::array<float, cpu::kVec> x{}, y{}, slope{};
        for (float& v : x) v = static_cast<float>(rng.uniform(-9, 9));
        if (i == 0) x = {0.0f, -0.0f, 3.0f, -3.0f, 20.0f, 21.0f, 87.5f, -87.5f, 100.0f, -100.0f};
        cpu::store(y.data(), activate<kA>(cpu::load(x.data())));
        cpu::store(slope.data(), activate_grad<kA>(cpu::load(x.data())));
        for (size_t k = 0; k < x.size(); ++k) {
          CAPTURE(x[k]);
          REQUIRE(y[k] == Approx(activate<kA>(x[k])).epsilon(1e-6).margin(1e-30));
          REQUIRE(slope[k] == Approx(activate_grad<kA>(x[k])).epsilon(1e-6).margin(1e-6));
        }
      }
    });
  });
}

TEST_CASE("activations have names") {
  each_activation([](Activation a) { CHECK(from_name<Activation>(name_of(a)) == a); });
  CHECK_THROWS_WITH(from_name<Activation>("swish"),
                    "unknown activation 'swish'; use identity, relu, leaky_relu, silu, hardswish, "
                    "sigmoid, mish, relu6 or hard_sigmoid");
}
