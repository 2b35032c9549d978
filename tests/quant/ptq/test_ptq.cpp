// SPDX-License-Identifier: Apache-2.0
// Post-training quantization of a small network.
#include <algorithm>
#include <cmath>

#include "deploy/engine/engine.h"
#include "deploy/engine/simulate.h"
#include "deploy/graph/ranges.h"
#include "quant/net.h"

using namespace sextant;
using namespace sextant::quant;

TEST_CASE("max ranges are the largest values of each group") {
  const test::QuantNet net;
  const deploy::Graph fused = net.graph();
  const std::vector<Tensor> batches{test::random_images(2, 1), test::random_images(2, 2),
                                    test::random_images(1, 3)};
  PtqReport report;
  const deploy::Graph g =
      quantize(fused, test::source_of(batches), {.method = Method::kMax}, &report);
  CHECK(report.images == 5);
  CHECK(report.requantizations == 0);
  CHECK(g.quantized());

  // by hand: group maxima over all tensors
  deploy::Graph grouped = fused;
  deploy::unify_ranges(grouped);
  std::vector<float> amax(grouped.tensors.size(), 0.0f);
  for (const Tensor& b : batches)
    deploy::Engine(grouped, {b.dim(0), 16, 16}).run(b, [&](const deploy::TensorView& v) {
      float& m = amax[static_cast<size_t>(v.info->group)];
      const Tensor values = v.values();
      for (const float x : values.span<float>()) m = std::max(m, std::abs(x));
    });
  for (const deploy::TensorInfo& t : g.tensors) {
    CAPTURE(t.name);
    REQUIRE(t.has_range());
    if (t.name != "images") CHECK(t.amax == amax[static_cast<size_t>(t.group)]);
  }
  CHECK(g.tensors[static_cast<size_t>(g.input)].amax == 1.0f);
  // stem, pool, deconv and concat share one signed range
  for (const PtqGroup& group : report.groups)
    if (group.tensors.size() > 1) {
      CHECK(group.tensors.size() == 4);
      CHECK_FALSE(group.is_unsigned);
      CHECK(group.amax == group.observed);
    }
}

TEST_CASE("signed ranges: no unsigned activation but the image, which only float layers read") {
  const test::QuantNet net;
  const auto quantized = [&](bool signed_ranges) {
    return quantize(net.graph(), test::source_of({test::random_images(2, 1)}),
                    {.signed_ranges = signed_ranges});
  };
  const deploy::Graph plain = quantized(false), g = quantized(true);
  int unsigned_before = 0, in_float = 0;
  for (size_t t = 0; t < g.tensors.size(); ++t) {
    CAPTURE(g.tensors[t].name);
    const bool image = deploy::holds_image(g, static_cast<int>(t));
    unsigned_before += !image && plain.tensors[t].is_unsigned;
    CHECK(g.tensors[t].is_unsigned == image);
  }
  CHECK(unsigned_before > 0);
  for (const deploy::Node& node : g.nodes) {
    if (!node.has_weight()) continue;
    CAPTURE(node.name);
    CHECK(deploy::runs_in_int8(g, node) != deploy::holds_image(g, node.inputs[0]));
    in_float += !deploy::runs_in_int8(g, node);
  }
  CHECK(in_float > 0);
}

TEST_CASE("every method gives ranges within the observed ones, and an int8 engine near fp32") {
  const Method method = GENERATE(Method::kMax, Method::kPercentile, Method::kMse, Method::kEntropy);
  const test::QuantNet net;
  PtqReport report;
  const deploy::Graph g =
      quantize(net.graph(), test::source_of({test::random_images(4, 4), test::random_images(4, 5)}),
               {.method = method, .percentile = 99.9, .images = 4}, &report);
  CAPTURE(name_of(method));
  CHECK(report.images == 4);  // the second batch is not asked for
  for (const PtqGroup& group : report.groups) {
    CHECK(group.amax > 0);
    if (group.observed > 0) CHECK(group.amax <= group.observed * 1.001f);
  }
  const Tensor images = test::random_images(2, 6);
  const Tensor exact = deploy::Engine(g, {2, 16, 16}).run(images);
  deploy::Engine engine(g, {2, 16, 16, deploy::Precision::kInt8});
  const double apart = test::relative_difference(engine.run(images), exact);
  CAPTURE(apart);
  CHECK(apart < (method == Method::kEntropy ? 1.0 : 0.15));  // entropy clips low: see calibrator.h
  deploy::Engine simulation = deploy::make_simulation(g, {2, 16, 16});
  for (const auto& d : deploy::compare_engines(engine, simulation, images)) CHECK(d.max_steps == 0);
}

TEST_CASE("calibration refuses bad options and images") {
  const deploy::Graph g = test::QuantNet().graph();
  CHECK(test::error_of([&] { quantize(g, test::source_of({}), {}); }) ==
        "ptq: no images to calibrate on");
  deploy::Graph broken = g;
  for (deploy::Node& n : broken.nodes)
    if (n.name == "down.block.conv") {
      n.bias = n.bias.clone();
      n.bias.f32()[0] = INFINITY;
    }
  CHECK(test::error_of([&] {
          quantize(broken, test::source_of({test::random_images(1, 7)}), {});
        }).starts_with("ptq: tensor 'down.block.conv'"));
}

TEST_CASE("ranges depend on the images alone, not on batches or their order") {
  const deploy::Graph g = test::QuantNet().graph();
  const Tensor all = test::random_images(6, 8);
  const int64_t bytes = all.numel() / 6;
  const auto ranges = [&](const std::vector<std::vector<int64_t>>& split, const PtqConfig& config) {
    std::vector<Tensor> batches;
    for (const auto& part : split) {
      Tensor b({static_cast<int64_t>(part.size()), 16, 16, 3}, DType::kU8);
      for (size_t k = 0; k < part.size(); ++k)
        std::copy_n(all.data<uint8_t>() + part[k] * bytes, bytes,
                    b.data<uint8_t>() + static_cast<int64_t>(k) * bytes);
      batches.push_back(b);
    }
    std::vector<float> amax;
    for (const auto& t : quantize(g, test::source_of(batches), config).tensors)
      amax.push_back(t.amax);
    return amax;
  };
  for (const auto& [method, name] : enum_names(Method{}).rows) {
    CAPTURE(name);
    PtqConfig config{.method = method, .percentile = 99.5};
    const std::vector<float> whole = ranges({{0, 1, 2, 3, 4, 5}}, config);
    CHECK(ranges({{0}, {1}, {2}, {3}, {4}, {5}}, config) == whole);
    CHECK(ranges({{5, 1}, {4}, {3, 0, 2}}, config) == whole);
    config.equalize = Equalization::kActivations;  // keeps images, then replays them
    const std::vector<float> equalized = ranges({{0, 1, 2, 3, 4, 5}}, config);
    CHECK(equalized != whole);
    CHECK(ranges({{5, 1}, {4}, {3, 0, 2}}, config) == equalized);
    config.layer_images = 6;
    CHECK(ranges({{2, 3}, {0, 1, 4, 5}}, config) == equalized);
  }
}

TEST_CASE("naive quantization has one scale for each weight, and loses more") {
  const deploy::Graph net = test::QuantNet().graph();
  const auto quantized = [&](const PtqConfig& config) {
    PtqReport report;
    const deploy::Graph g =
        quantize(net, test::source_of({test::random_images(4, 9)}), config, &report);
    return std::pair(g, report);
  };
  const auto [naive, naive_report] = quantized({.naive = true});
  const auto [plain, plain_report] = quantized({.method = Method::kMax});
  for (size_t n = 0; n < naive.nodes.size(); ++n) {
    if (!naive.nodes[n].has_weight()) continue;
    const std::vector<float>& s = naive.nodes[n].weight_scale;
    CHECK(std::all_of(s.begin(), s.end(), [&](float v) { return v == s[0]; }));
    CHECK(s[0] == *std::max_element(plain.nodes[n].weight_scale.begin(),
                                    plain.nodes[n].weight_scale.end()));
  }
  for (size_t t = 0; t < naive.tensors.size(); ++t)
    CHECK(naive.tensors[t].amax == plain.tensors[t].amax);
  CHECK(naive_report.sqnr < plain_report.sqnr);
}
