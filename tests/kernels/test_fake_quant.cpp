// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <limits>

#include "kernels/backend.h"
#include "support/fixtures.h"

using namespace sextant;
using namespace sextant::kernels;

namespace {

Tensor forward(const Tensor& x, const Tensor& amax, FakeQuantForward p) {
  const Tensor y(x.shape());
  p.x = x.f32();
  p.amax = amax.f32();
  p.y = y.f32();
  backend(Device::kCpu).fake_quant_forward(p);
  return y;
}

Tensor backward(const Tensor& x, const Tensor& amax, const Tensor& dy, const FakeQuantForward& f) {
  const Tensor dx = Tensor::full(x.shape(), 77.0f);
  backend(Device::kCpu)
      .fake_quant_backward({.x = x.f32(),
                            .amax = amax.f32(),
                            .dy = dy.f32(),
                            .dx = dx.f32(),
                            .outer = f.outer,
                            .channels = f.channels,
                            .inner = f.inner,
                            .is_unsigned = f.is_unsigned});
  return dx;
}

// Of the case "clipped", as the file's note has it: "clipped: amax * 0.6".
float clipped_factor(const SafeTensors& f) {
  const std::string& note = f.meta("note");
  const std::string before = "clipped: amax * ";
  return std::stof(note.substr(note.find(before) + before.size()));
}

Tensor values(std::vector<float> v) { return Tensor::from({static_cast<int64_t>(v.size())}, v); }

}  // namespace

TEST_CASE("fake quantization per tensor agrees with pytorch-quantization") {
  for (const std::string& name : test::fixture_names("quant/fake_quant_per_tensor_")) {
    const SafeTensors f = *test::fixture(name);
    const Tensor& x = f.at("input.x");
    const FakeQuantForward p{.inner = x.numel(),
                             .bits = std::stoi(f.meta("num_bits")),
                             .is_unsigned = f.meta("unsigned") == "True",
                             .narrow_range = f.meta("narrow_range") == "True"};
    for (const std::string& which : test::parts_of_names(f, "amax.", "")) {
      INFO(name << ", amax " << which);
      const Tensor& amax = f.at("amax." + which);
      CHECK(test::max_difference(forward(x, amax, p), f.at("output." + which + ".fake")) == 0.0);
      CHECK(test::max_difference(backward(x, amax, f.at("grad_output"), p),
                                 f.at("grad." + which + ".x")) == 0.0);
    }
  }
}

TEST_CASE("fake quantization per channel agrees with pytorch-quantization") {
  for (const std::string& name : test::fixture_names("quant/fake_quant_per_channel_")) {
    const SafeTensors f = *test::fixture(name);
    const Tensor& x = f.at("input.w");
    const int axis = std::stoi(f.meta("axis"));
    FakeQuantForward p{.bits = std::stoi(f.meta("num_bits"))};
    p.channels = x.dim(axis);
    for (int d = 0; d < axis; ++d) p.outer *= x.dim(d);
    for (int d = axis + 1; d < x.shape().rank(); ++d) p.inner *= x.dim(d);
    for (const std::string& which : test::parts_of_names(f, "output.", ".fake")) {
      INFO(name << " " << which);
      const Tensor amax = f.at("output.amax").clone();
      if (which == "clipped")
        for (float& a : amax.span<float>()) a *= clipped_factor(f);
      CHECK(test::max_difference(forward(x, amax, p), f.at("output." + which + ".fake")) == 0.0);
      CHECK(test::max_difference(backward(x, amax, f.at("grad_output"), p),
                                 f.at("grad." + which + ".w")) == 0.0);
    }
  }
}

TEST_CASE("fake quantization by hand") {
  // Scale 1: levels are the integers; halves go to the even one.
  const Tensor x = values({0.5f, 1.5f, 2.5f, -0.5f, -1.5f, 126.6f, 127.0f, 128.0f, -127.6f, -300});
  const Tensor amax = values({127.0f});
  const Tensor dy = values({1, 2, 3, 4, 5, 6, 7, 8, 9, 10});
  FakeQuantForward p{.inner = 10};
  CHECK(test::max_difference(forward(x, amax, p),
                             values({0, 2, 2, 0, -2, 127, 127, 127, -127, -127})) == 0.0);
  CHECK(test::max_difference(backward(x, amax, dy, p), values({1, 2, 3, 4, 5, 6, 7, 0, 0, 0})) ==
        0.0);
  p.narrow_range = false;
  CHECK(test::max_difference(forward(x, amax, p),
                             values({0, 2, 2, 0, -2, 127, 127, 127, -128, -128})) == 0.0);
  p.is_unsigned = true;
  const Tensor wide = values({255.0f});
  CHECK(test::max_difference(forward(x, wide, p), values({0, 2, 2, 0, 0, 127, 127, 128, 0, 0})) ==
        0.0);
  CHECK(test::max_difference(backward(x, wide, dy, p), values({1, 2, 3, 0, 0, 6, 7, 8, 0, 0})) ==
        0.0);
  const Tensor bad = values({std::numeric_limits<float>::quiet_NaN()});
  CHECK(std::isnan(forward(bad, amax, {}).f32()[0]));
}

TEST_CASE("fake quantization splits channels and threads alike") {
  // [outer, channels, inner] against one call per element; long enough for several threads.
  const auto [outer, channels, inner] = GENERATE(table<int64_t, int64_t, int64_t>(
      {{3, 5, 7}, {2000, 33, 1}, {1, 3, 20001}, {1, 1, 50001}, {40, 700, 1}, {1, 40, 1}}));
  INFO(outer << " x " << channels << " x " << inner);
  const Tensor x = test::random_tensor({outer, channels, inner}, 1, -2, 2);
  const Tensor dy = test::random_tensor({outer, channels, inner}, 2);
  const Tensor amax = test::random_tensor({channels}, 3, 0.1, 2);
  if (channels > 2) amax.f32()[1] = 0.0f;
  const FakeQuantForward p{.outer = outer, .channels = channels, .inner = inner};
  const Tensor y = forward(x, amax, p);
  const Tensor dx = backward(x, amax, dy, p);
  int64_t wrong = 0;
  for (int64_t i = 0; i < x.numel(); ++i) {
    const float a = amax.f32()[i / inner % channels];
    const float v = x.f32()[i];
    const double q = a == 0 ? 0 : std::nearbyint(v * (127.0f / a));
    const double expected = a == 0 ? 0 : std::clamp(q, -127.0, 127.0) / (127.0f / a);
    wrong += y.f32()[i] != static_cast<float>(expected);
    wrong += dx.f32()[i] != (std::abs(v) <= a ? dy.f32()[i] : 0.0f);
  }
  CHECK(wrong == 0);
}
