// SPDX-License-Identifier: Apache-2.0
// Channel sets and cross-layer equalization.
#include <algorithm>
#include <cmath>
#include <set>

#include "deploy/engine/engine.h"
#include "quant/net.h"
#include "quant/ptq/channel_sets.h"
#include "quant/ptq/equalize.h"
#include "quant/ranges/histogram.h"

using namespace sextant;
using namespace sextant::quant;

namespace {

// Every way a channel can go from one convolution to the next.
deploy::Graph tangled(Activation act) {
  test::GraphBuilder b;
  const int stem = b.conv(b.g.input, 8, 3, act);
  const int a = b.conv(stem, 8, 3, act);
  const int grouped = b.conv(a, 8, 3, act, 4);
  const int residual = b.conv(grouped, 8, 1, act, 1, a);              // act(conv) + a
  const int before = b.conv(residual, 8, 1, act, 1, residual, true);  // act(conv + r)
  const int pooled = b.pool(before);
  const int up = b.upsample(b.conv(pooled, 6, 1, Activation::kIdentity));
  const int wide = b.deconv(b.conv(pooled, 10, 1, act), 12, Activation::kIdentity);
  const int joined = b.concat({up, wide});
  const int part = b.slice(joined, 4, 16);
  const int again = b.activation(b.conv(part, 9, 3, Activation::kIdentity), act);
  const int both = b.sum(b.conv(again, 7, 1, act), b.conv(joined, 7, 1, act));
  return b.finish(b.conv(b.conv(both, 5, 1, Activation::kSiLU), 4, 1, Activation::kIdentity));
}

double apart(const deploy::Graph& a, const deploy::Graph& b) {
  const Tensor images = test::random_images(2, 3);
  return test::relative_difference(deploy::Engine(b, {2, 16, 16}).run(images),
                                   deploy::Engine(a, {2, 16, 16}).run(images));
}

float row_range(const deploy::Node& n, int64_t o) {
  const int64_t inner = n.weight.numel() / n.weight.dim(0);
  return max_abs({n.weight.f32() + o * inner, static_cast<size_t>(inner)});
}
float column_range(const deploy::Node& n, int64_t i) {
  float r = 0;
  for (int64_t k = i; k < n.weight.numel(); k += n.weight.dim(3))
    r = std::max(r, std::abs(n.weight.f32()[k]));
  return r;
}

}  // namespace

TEST_CASE("equalization keeps the function on every kind of path") {
  for (const Activation act : {Activation::kReLU, Activation::kLeakyReLU, Activation::kIdentity}) {
    const deploy::Graph g = tangled(act);
    const std::vector<Tensor> images{test::random_images(2, 1), test::random_images(1, 2)};
    const ChannelRanges ranges = observe_channels(g, images);
    for (const bool by_activations : {false, true}) {
      CAPTURE(name_of(act), by_activations);
      deploy::Graph e = g;
      const EqualizeReport report = equalize(e, {}, by_activations ? &ranges : nullptr);
      CHECK(report.channels > 40);
      CHECK(report.largest > 1.5);
      CHECK(report.sweeps < 100);  // it converged
      CHECK(apart(g, e) < 1e-5);
      CHECK(apart(g, tangled(act)) == 0.0);  // the original's weights were not written to
    }
  }
}

TEST_CASE("equalization goes behind activations that do not commute with a factor") {
  for (const Activation act : {Activation::kSiLU, Activation::kHardswish}) {
    CAPTURE(name_of(act));
    const deploy::Graph g = tangled(act);
    const ChannelRanges ranges = observe_channels(g, {test::random_images(2, 1)});
    deploy::Graph e = g;
    const EqualizeReport report = equalize(e, {}, &ranges);
    CHECK(report.channels > 40);
    CHECK(report.largest > 1.5);
    CHECK(apart(g, e) < 1e-5);
    const auto gains =
        std::ranges::count_if(e.nodes, [](const auto& n) { return n.gain.defined(); });
    CHECK(gains > 5);
    // A second time, on top of the first.
    const ChannelRanges again = observe_channels(e, {test::random_images(2, 1)});
    equalize(e, {}, &again);
    CHECK(apart(g, e) < 1e-5);
    // By weights alone there is nothing to compare behind such an activation.
    deploy::Graph w = g;
    equalize(w);
    for (const deploy::Node& n : w.nodes) CHECK_FALSE(n.gain.defined());
    CHECK(apart(g, w) < 1e-5);
  }
}

TEST_CASE("a chain's weight ranges meet") {
  test::GraphBuilder b;
  int t = b.g.input;
  for (const int64_t o : {8, 12, 6, 5}) t = b.conv(t, o, 3, Activation::kReLU);
  deploy::Graph g = b.finish(b.conv(t, 4, 1, Activation::kIdentity));
  const EqualizeReport report = equalize(g, {.sweeps = 1000, .tolerance = 1e-7});
  CHECK(report.pairs == 4);
  CHECK(report.channels == 8 + 12 + 6 + 5);
  for (size_t n = 1; n + 1 < g.nodes.size(); ++n)
    for (int64_t c = 0; c < g.nodes[n].weight.dim(0); ++c) {
      const float row = row_range(g.nodes[n], c);
      CHECK(std::abs(row - column_range(g.nodes[n + 1], c)) < 1e-4f * row);
    }
}

TEST_CASE("ranges of channels are equalized by activations") {
  test::GraphBuilder b;
  const int mid = b.conv(b.g.input, 8, 3, Activation::kReLU);
  deploy::Graph g = b.finish(b.conv(mid, 4, 1, Activation::kIdentity));
  const std::vector<Tensor> images{test::random_images(4, 1)};
  const auto spread = [&] {
    const std::vector<float> r = observe_channels(g, images)[static_cast<size_t>(mid)];
    return *std::max_element(r.begin(), r.end()) / *std::min_element(r.begin(), r.end());
  };
  const float before = spread();
  const ChannelRanges ranges = observe_channels(g, images);
  equalize(g, {}, &ranges);
  CHECK(before > 8);
  CHECK(spread() < before / 2);
}

TEST_CASE("channel sets end at operations that do not commute with a factor") {
  const deploy::Graph g = tangled(Activation::kReLU);
  const ChannelSets found = find_channel_sets(g);
  const auto of = [&](const std::string& name) {
    return found.of_tensor[static_cast<size_t>(g.find_tensor(name))];
  };
  const auto none = [](const std::vector<int>& sets) {
    return std::all_of(sets.begin(), sets.end(), [](int s) { return s < 0; });
  };
  CHECK(none(of("images")));
  CHECK(none(of(g.tensors[static_cast<size_t>(g.output)].name)));
  for (const deploy::Node& n : g.nodes)
    if (n.activation() == Activation::kSiLU) CHECK(none(of(n.name)));
  // the residual joins its two convolutions with the tensor between
  const std::vector<int> a = of("conv2"), r = of("conv4"), p = of("conv5"), pool = of("max_pool6");
  CHECK(a == r);
  CHECK(a == p);
  CHECK(a == pool);
  CHECK(std::set<int>(a.begin(), a.end()).size() == 8);
  CHECK(*std::min_element(a.begin(), a.end()) >= 0);
  const ChannelSet& set = found.sets[static_cast<size_t>(a[0])];
  CHECK(set.makers.size() == 3);
  // concat, slice: the same channels under other numbers
  const std::vector<int> joined = of("concat11"), part = of("slice12");
  CHECK(std::equal(part.begin(), part.end(), joined.begin() + 4));
  CHECK(*std::min_element(joined.begin(), joined.end()) >= 0);
}

TEST_CASE("dead channels stay as they are") {
  test::GraphBuilder b;
  const int mid = b.conv(b.g.input, 4, 1, Activation::kReLU);
  deploy::Graph g = b.finish(b.conv(mid, 4, 1, Activation::kIdentity));
  for (int64_t k = 0; k < 3; ++k) g.nodes[1].weight.f32()[k] = 0.0f;          // row 0
  for (int64_t o = 0; o < 4; ++o) g.nodes[2].weight.f32()[o * 4 + 1] = 0.0f;  // column 1
  const deploy::Graph before = g;
  equalize(g);
  CHECK(g.nodes[1].bias.f32()[0] == before.nodes[1].bias.f32()[0]);
  CHECK(g.nodes[1].bias.f32()[1] == before.nodes[1].bias.f32()[1]);
  CHECK(g.nodes[1].bias.f32()[2] != before.nodes[1].bias.f32()[2]);
  for (const deploy::Node& n : g.nodes)
    if (n.has_weight())
      for (const float w : n.weight.span<float>()) CHECK(std::isfinite(w));
}
