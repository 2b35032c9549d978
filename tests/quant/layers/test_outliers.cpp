// SPDX-License-Identifier: Apache-2.0
// Peak-to-RMS ratios of weights and activations.
#include <cmath>

#include "quant/layers/outliers.h"
#include "support/support.h"

namespace {

using namespace sextant;
using deploy::Graph;
using deploy::Node;
// image -> 1x1 convolution to two channels (first red, second minus the sum of all), no activation.
Graph two_channels() {
  Graph g;
  g.tensors = {{.name = "input", .shape = Shape{1, 4, 4, 3}},
               {.name = "conv", .shape = Shape{1, 4, 4, 2}}};
  Node in;
  in.name = "input";
  in.output = 0;
  Node conv;
  conv.name = "conv";
  conv.attributes = deploy::ConvAttributes{};
  conv.inputs = {0};
  conv.output = 1;
  conv.weight = Tensor::from(Shape{2, 1, 1, 3}, std::vector<float>{4, 0, 0, -1, -1, -1});
  g.nodes = {in, conv};
  g.input = 0;
  g.output = 1;
  return g;
}

Tensor image(int64_t batch, uint8_t value) {
  const Tensor t(Shape{batch, 4, 4, 3}, DType::kU8);
  for (auto& v : t.span<uint8_t>()) v = value;
  return t;
}

}  // namespace

TEST_CASE("outliers: largest value, root mean square and range of channels") {
  int next = 0;
  const auto layers = quant::measure_outliers(two_channels(), [&]() -> Tensor {
    // two batches of different size: the moments must be of all 3 images
    return next == 2 ? Tensor() : next++ == 0 ? image(1, 255) : image(2, 51);
  });
  REQUIRE(layers.size() == 1);
  CHECK(layers[0].name == "conv");
  CHECK(layers[0].weight.largest == Approx(4.0));
  CHECK(layers[0].weight.rms == Approx(std::sqrt(19.0 / 6)));
  CHECK(layers[0].channel_ratio == Approx(4.0));
  // outputs 4 and -3 for the white image, 0.8 and -0.6 for the two grey ones
  CHECK(layers[0].activation.largest == Approx(4.0));
  CHECK(layers[0].activation.rms == Approx(std::sqrt((16 + 9 + 2 * (0.64 + 0.36)) / 6)));
  CHECK(layers[0].activation.ratio() == Approx(4 / std::sqrt(4.5)));
}

TEST_CASE("outliers: no images is an error") {
  CHECK(test::error_of([] {
          quant::measure_outliers(two_channels(), [] { return Tensor(); });
        }).find("no images") != std::string::npos);
}
