// SPDX-License-Identifier: Apache-2.0
// Quantized layers against pytorch-quantization, and that every shared fixture has a test.
#include <algorithm>

#include "layers/functional.h"
#include "support/fixture_folder.h"
#include "support/support.h"

using namespace sextant;

namespace {

// full_integer_: the fixed-point mode's own tests. fake_quant_: tests/kernels.
const test::FixtureFolder kQuantFixtures = {
    "quant",
    {"full_integer_", "fake_quant_per_tensor_", "fake_quant_per_channel_", "histogram_",
     "max_calib_axis0", "quant_conv2d", "quant_convtranspose2d"}};

Tensor flat(const Tensor& amax) { return amax.reshape({amax.numel()}); }

}  // namespace

TEST_CASE("every fixture of quantization is claimed by a test") {
  CHECK(test::unclaimed_fixtures(kQuantFixtures) == std::vector<std::string>{});
  for (const char* kind : kQuantFixtures.kinds) test::fixtures_of(kQuantFixtures, kind);
}

TEST_CASE("quantized convolutions agree with pytorch-quantization, forward and backward") {
  const bool transposed = GENERATE(false, true);
  const std::string kind = transposed ? "quant_convtranspose2d" : "quant_conv2d";
  for (const std::string& name : test::fixtures_of(kQuantFixtures, kind)) {
    SEXTANT_REQUIRE_FIXTURE(f, name);
    INFO(name);
    const Variable x(nchw_to_nhwc(f.at("input.x")), true);
    const auto ours = transposed ? iohw_to_ohwi : nchw_to_nhwc;
    const Variable w(ours(f.at("param.weight")), true);
    const Variable b(f.at("param.bias").clone(), true);
    const Variable xq = fake_quant(x, flat(f.at("amax.input")), {.narrow_range = false});
    const Variable wq =
        fake_quant(w, flat(f.at("amax.weight")), {.narrow_range = false, .axis = 0});
    CHECK(test::max_difference(xq.data(), nchw_to_nhwc(f.at("output.quant_input"))) == 0.0);
    CHECK(test::max_difference(wq.data(), ours(f.at("output.quant_weight"))) == 0.0);
    const Variable y = transposed ? conv_transpose2d(xq, wq, b)
                                  : conv2d(xq, wq, b,
                                           {.stride = std::stoi(f.meta("stride")),
                                            .padding = std::stoi(f.meta("padding"))});
    CHECK(test::relative_difference(y.data(), nchw_to_nhwc(f.at("output.y"))) < 2e-6);
    backward({{y, nchw_to_nhwc(f.at("grad_output"))}});
    CHECK(test::relative_difference(x.grad(), nchw_to_nhwc(f.at("grad.input"))) < 2e-6);
    CHECK(test::relative_difference(w.grad(), ours(f.at("grad.param.weight"))) < 2e-6);
    CHECK(test::relative_difference(b.grad(), f.at("grad.param.bias")) < 2e-6);
  }
}
