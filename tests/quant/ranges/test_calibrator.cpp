// SPDX-License-Identifier: Apache-2.0
// Histograms and ranges against pytorch-quantization, and against their definitions.
#include <algorithm>
#include <cmath>
#include <limits>

#include "core/parallel.h"
#include "quant/ranges/calibrator.h"
#include "support/fixtures.h"

using namespace sextant;
using namespace sextant::quant;

namespace {

// Normal values, half of them clipped to 0: what a ReLU gives, with a few far outliers.
std::vector<float> activations(int64_t n, uint64_t seed, double scale = 1.0) {
  Rng rng(seed);
  std::vector<float> x(static_cast<size_t>(n));
  for (float& v : x) {
    const double outlier = rng.uniform() < 1e-4 ? 5.0 : 1.0;
    v = static_cast<float>(scale * outlier * std::max(0.0, rng.normal()));
  }
  return x;
}

Histogram histogram_of(std::vector<int64_t> counts, double width) {
  Histogram h;
  h.counts = std::move(counts);
  for (size_t k = 0; k <= h.counts.size(); ++k) h.edges.push_back(width * static_cast<double>(k));
  return h;
}

// The entropy search word for word from its definition, O(bins) per candidate.
double entropy_by_definition(const Histogram& h, int64_t levels, int64_t start_bin) {
  std::vector<double> n(h.counts.begin(), h.counts.end());
  n[0] = n[1];
  const auto bins = static_cast<int64_t>(n.size());
  double best = std::numeric_limits<double>::infinity();
  int64_t chosen = bins;
  for (int64_t last = start_bin; last <= bins; ++last) {
    std::vector<double> p(n.begin(), n.begin() + last);
    std::vector<double> q(p.size(), 0.0);
    for (int64_t k = last; k < bins; ++k) p.back() += n[static_cast<size_t>(k)];
    for (int64_t g = 0; g < levels; ++g) {
      double sum = 0;
      double filled = 0;
      const auto inside = [&](int64_t k) { return k * levels / last == g; };
      for (int64_t k = 0; k < last; ++k) {
        if (!inside(k) || n[static_cast<size_t>(k)] == 0) continue;
        sum += n[static_cast<size_t>(k)];
        filled += 1;
      }
      for (int64_t k = 0; k < last; ++k) {
        if (inside(k) && n[static_cast<size_t>(k)] > 0) q[static_cast<size_t>(k)] = sum / filled;
      }
    }
    double p_sum = 0;
    double q_sum = 0;
    for (const double v : p) p_sum += v;
    for (const double v : q) q_sum += v;
    double kl = 0;
    for (size_t k = 0; k < p.size(); ++k) {
      if (p[k] > 0) {
        kl += q[k] > 0 ? p[k] / p_sum * std::log(p[k] / p_sum / (q[k] / q_sum))
                       : std::numeric_limits<double>::infinity();
      }
    }
    if (kl <= best) {
      best = kl;
      chosen = last;
    }
  }
  return h.edges[static_cast<size_t>(chosen)];
}

double mse_by_definition(const Histogram& h, double levels, int64_t start_bin) {
  double best = std::numeric_limits<double>::infinity();
  double chosen = 0;
  const auto centre = [&](size_t k) {
    return static_cast<double>(
        (static_cast<float>(h.edges[k]) + static_cast<float>(h.edges[k + 1])) / 2.0f);
  };
  for (auto c = static_cast<size_t>(start_bin); c < h.counts.size(); ++c) {
    const double step = centre(c) / levels;
    double error = 0;
    for (size_t k = 0; k < h.counts.size(); ++k) {
      const double q = std::min(std::nearbyint(centre(k) / step), levels) * step;
      error += static_cast<double>(h.counts[k]) * (q - centre(k)) * (q - centre(k));
    }
    if (error < best) {
      best = error;
      chosen = centre(c);
    }
  }
  return chosen;
}

void compare_histogram(const SafeTensors& f, const std::string& name, const Histogram& h) {
  INFO(name);
  const Tensor& counts = f.at(name + ".hist");
  const Tensor& edges = f.at(name + ".bin_edges");
  REQUIRE(h.bins() == counts.numel());
  REQUIRE(static_cast<int64_t>(h.edges.size()) == edges.numel());
  int64_t moved = 0;
  double edge_error = 0;
  for (int64_t k = 0; k < counts.numel(); ++k) {
    moved += std::abs(h.counts[static_cast<size_t>(k)] - counts.data<int64_t>()[k]);
    const auto edge = static_cast<float>(h.edges[static_cast<size_t>(k + 1)]);
    edge_error = std::max(edge_error, std::abs(static_cast<double>(edge) - edges.f32()[k + 1]));
  }
  const double edge_relative = edge_error / edges.f32()[edges.numel() - 1];
  INFO("counts moved " << moved << ", edges differ by " << edge_relative);
  CHECK(moved == 0);
  CHECK(edge_relative < 2e-7);
}

}  // namespace

namespace {

// A range of the file, by the end of its name: "percentile99.9", "unsigned_mse". A percentile
// without a number is the file's own.
void compare_amax(const SafeTensors& f, const std::string& prefix, const std::string& name,
                  const HistogramCollector& c) {
  const std::string unsigned_mark = "unsigned_", percentile = "percentile";
  AmaxOptions options{.percentile = std::stod(f.meta("percentile")),
                      .bits = std::stoi(f.meta("num_bits")),
                      .is_unsigned = f.meta("unsigned") == "True",
                      .start_bin = std::stoll(f.meta("start_bin"))};
  std::string method = name;
  if (method.starts_with(unsigned_mark)) {
    options.is_unsigned = true;
    method.erase(0, unsigned_mark.size());
  }
  if (method.starts_with(percentile) && method != percentile) {
    options.percentile = std::stod(method.substr(percentile.size()));
    method = percentile;
  }
  const double expected = f.at(prefix + name).item();
  const double got = c.amax(from_name<Method>(method), options);
  INFO(prefix << name << " is " << got << ", reference " << expected);
  CHECK(std::abs(got - expected) <= 2e-7 * expected);
}

void compare_collector(const SafeTensors& f, Binning binning) {
  const std::string tag = binning == Binning::kTorch ? "torch." : "numpy.";
  HistogramCollector c({.binning = binning, .bins = std::stoll(f.meta("num_bins"))});
  const auto compare_all = [&](const std::string& prefix) {
    for (const std::string& name : test::parts_of_names(f, prefix, ""))
      compare_amax(f, prefix, name, c);
  };
  for (const std::string& batch : test::parts_of_names(f, "input.batch.", "")) {
    c.collect(f.at("input.batch." + batch).span<float>());
    compare_histogram(f, tag + "after" + batch, c.histogram());
    if (batch == "0" && binning == Binning::kTorch) compare_all("torch.single.amax.");
  }
  compare_all(tag + "amax.");
  compare_all("amax.");
}

}  // namespace

TEST_CASE("histograms and ranges agree with pytorch-quantization") {
  for (const std::string& name : test::fixture_names("quant/histogram_")) {
    CAPTURE(name);
    const SafeTensors f = *test::fixture(name);
    compare_collector(f, Binning::kTorch);
    compare_collector(f, Binning::kNumpy);
  }
}

TEST_CASE("the largest value of a channel agrees with pytorch-quantization") {
  SEXTANT_REQUIRE_FIXTURE(f, "quant/max_calib_axis0");
  REQUIRE(f.meta("axis") == "0");
  const Tensor& expected = f.at("output.amax");
  const int64_t channels = expected.numel();
  std::vector<float> amax(static_cast<size_t>(channels), 0.0f);
  for (const std::string& batch : test::parts_of_names(f, "input.batch.", "")) {
    const Tensor& x = f.at("input.batch." + batch);
    REQUIRE(x.dim(0) == channels);
    update_channel_max(x.span<float>(), 1, x.numel() / channels, amax);
  }
  for (size_t c = 0; c < amax.size(); ++c) CHECK(amax[c] == expected.f32()[c]);
}

TEST_CASE("the searches agree with their definitions") {
  const uint64_t seed = GENERATE(1, 2, 3);
  HistogramCollector c({.binning = Binning::kTorch, .bins = 400});
  // The second batch widens the range.
  c.collect(activations(5000, seed));
  c.collect(activations(5000, seed + 10, 1.3));
  const Histogram h = c.histogram();
  INFO("seed " << seed << ", " << h.bins() << " bins");
  CHECK(c.amax(Method::kEntropy, {.bits = 5, .start_bin = 40}) == entropy_by_definition(h, 16, 40));
  CHECK(c.amax(Method::kEntropy, {.bits = 4, .is_unsigned = true, .start_bin = 40}) ==
        entropy_by_definition(h, 16, 40));
  CHECK(c.amax(Method::kMse, {.bits = 5, .start_bin = 40}) == mse_by_definition(h, 15, 40));
  CHECK(c.amax(Method::kMse, {.bits = 5, .is_unsigned = true, .start_bin = 40}) ==
        mse_by_definition(h, 31, 40));
  // More levels than bins.
  CHECK(c.amax(Method::kMse, {.bits = 10, .start_bin = 40}) == mse_by_definition(h, 511, 40));
}

TEST_CASE("percentiles by hand") {
  const Histogram h = histogram_of({50, 25, 20, 5}, 0.5);
  CHECK(percentile_amax(h, 0) == 0.0);
  CHECK(percentile_amax(h, 50) == 0.0);
  CHECK(percentile_amax(h, 51) == 0.5);
  CHECK(percentile_amax(h, 80) == 1.0);
  CHECK(percentile_amax(h, 99) == 1.5);
  CHECK(test::error_of([&] { percentile_amax(h, 100.5); }) ==
        "calibration: percentile 100.5 is not in [0, 100]");
}

TEST_CASE("small histograms are searched too") {
  // Fewer bins than start_bin: the last bin is the only candidate.
  const Histogram h = histogram_of({3, 2, 0, 1}, 1.0);
  CHECK(entropy_amax(h, {}) == 4.0);
  CHECK(mse_amax(h, {}) == 3.5);
  CHECK(mse_amax(histogram_of({7}, 2.0), {}) == 1.0);
  CHECK(entropy_amax(histogram_of({7}, 2.0), {}) == 2.0);
}

TEST_CASE("among equally good candidates the entropy search takes the last") {
  // With a level for each bin nothing is lost from the fourth on: a divergence of exactly 0.
  const Histogram tail = histogram_of({3, 3, 2, 1, 0, 0}, 1.0);
  CHECK(entropy_amax(tail, {.start_bin = 1}) == 6.0);
  CHECK(entropy_amax(histogram_of({3, 3, 2, 1}, 1.0), {.start_bin = 1}) == 4.0);
  // Candidates below every value divide 0 by 0, which the reference takes for the least.
  CHECK(entropy_amax(histogram_of({0, 0, 0, 4, 1}, 1.0), {.start_bin = 1}) == 3.0);
  CHECK(entropy_amax(histogram_of({0, 0, 0, 4, 1}, 1.0), {.start_bin = 4}) == 5.0);
}

TEST_CASE("counting puts every value into its bin") {
  const int64_t n = GENERATE(1, 5, 1027, 200003);
  const int64_t bins = GENERATE(1, 100, 2048);
  INFO(n << " values, " << bins << " bins");
  std::vector<float> x = activations(n, 4);
  for (size_t i = 0; i < x.size(); i += 3) x[i] = -x[i];
  const float range = std::max(max_abs(x), 1.0f);
  std::vector<int64_t> expected(static_cast<size_t>(bins), 5);
  for (const float v : x) {
    const float place = std::abs(v) / range * static_cast<float>(bins);
    ++expected[static_cast<size_t>(std::min<int64_t>(static_cast<int64_t>(place), bins - 1))];
  }
  const int before = num_threads();
  for (const int threads : {1, 3}) {
    set_num_threads(threads);
    std::vector<int64_t> counts(static_cast<size_t>(bins), 5);
    count_linear(x, range, counts);
    CHECK(counts == expected);
  }
  set_num_threads(before);
}

TEST_CASE("a nested histogram depends on the values alone") {
  const std::vector<float> small = activations(70000, 1, 0.01);
  const std::vector<float> large = activations(3000, 2, 3.0);
  std::vector<float> all = small;
  all.insert(all.end(), large.begin(), large.end());
  HistogramCollector at_once({.bins = 256});
  at_once.collect(all);
  HistogramCollector up({.bins = 256});
  up.collect(small);
  up.collect(large);
  HistogramCollector down({.bins = 256});
  down.collect(large);
  for (size_t i = 0; i < small.size(); i += 997) {
    down.collect(std::span(small).subspan(i, std::min<size_t>(997, small.size() - i)));
  }
  const Histogram h = at_once.histogram();
  CHECK(h.bins() >= 256);
  CHECK(h.bins() <= 512);
  CHECK(h.total() == 73000);
  CHECK(h.edges.back() > at_once.max_seen());
  CHECK(h.edges[h.edges.size() - 2] <= at_once.max_seen());
  CHECK(h.counts.back() > 0);
  for (const HistogramCollector* other : {&up, &down}) {
    CHECK(other->histogram().counts == h.counts);
    CHECK(other->histogram().edges == h.edges);
    for (const Method m : {Method::kMax, Method::kPercentile, Method::kEntropy, Method::kMse}) {
      CHECK(other->amax(m) == at_once.amax(m));
    }
  }
  // Each value lies between the edges of a bin that counts it.
  std::vector<int64_t> counts(h.counts.size(), 0);
  count_by_edges(all, h.edges, counts);
  CHECK(counts == h.counts);
}

TEST_CASE("a power of two as largest value has a bin of its own") {
  HistogramCollector c({.bins = 4});
  c.collect(std::vector<float>{0.0f, 0.5f, -2.0f, 1.99f});
  const Histogram h = c.histogram();
  CHECK(h.counts == std::vector<int64_t>{1, 1, 0, 1, 1});
  CHECK(h.edges == std::vector<double>{0, 0.5, 1, 1.5, 2, 2.5});
}

TEST_CASE("a fixed histogram counts larger values in its last bin") {
  HistogramCollector c({.binning = Binning::kFixed, .bins = 4, .range = 2.0f});
  c.collect(std::vector<float>{0.1f, -0.6f, 1.9f, 2.0f, 7.0f});
  CHECK(c.histogram().counts == std::vector<int64_t>{1, 1, 0, 3});
  CHECK(c.amax(Method::kMax) == 7.0);
}

TEST_CASE("zeros alone give no range, and are counted once there is a range") {
  const Binning binning =
      GENERATE(Binning::kNested, Binning::kFixed, Binning::kTorch, Binning::kNumpy);
  HistogramCollector c({.binning = binning, .bins = 2, .range = 1.0f});
  CHECK(test::error_of([&] { c.amax(Method::kMax); }) == "calibration: no values were collected");
  c.collect({});
  c.collect(std::vector<float>(10, 0.0f));
  for (const Method m : {Method::kMax, Method::kPercentile, Method::kEntropy, Method::kMse}) {
    CHECK(c.amax(m) == 0.0);
  }
  c.collect(std::vector<float>{0.0f, 0.25f, 1.0f});
  CHECK(c.values() == 13);
  CHECK(c.histogram().total() == 13);
  CHECK(c.histogram().counts[0] >= 11);
}

TEST_CASE("the collector refuses invalid options and values") {
  HistogramCollector c;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  CHECK(test::error_of([&] {
          c.collect(std::vector<float>{1, nan, -infinity, 0});
        }) == "calibration: 2 of 4 values are not finite");
  CHECK(c.values() == 0);
  CHECK(test::error_of([] { HistogramCollector({.bins = 1000}); }) ==
        "calibration: nested binning needs a power of two bins, not 1000");
  CHECK(test::error_of([] { HistogramCollector({.binning = Binning::kFixed}); }) ==
        "calibration: fixed binning needs a range > 0, not 0");
  for (const Binning binning : {Binning::kTorch, Binning::kNumpy}) {
    HistogramCollector grown({.binning = binning});
    grown.collect(std::vector<float>{0.0f, 1e-6f});
    CHECK(test::error_of([&] {
            grown.collect(std::vector<float>{1e6f});
          }).find("too far for bins of the first batch's width") != std::string::npos);
  }
  std::vector<float> amax(3);
  CHECK(test::error_of([&] { update_channel_max(std::vector<float>(7), 1, 2, amax); }) ==
        "calibration: 7 values are not 1 x 3 channels x 2");
}

TEST_CASE("methods have names") {
  for (const Method m : {Method::kMax, Method::kPercentile, Method::kEntropy, Method::kMse}) {
    CHECK(from_name<Method>(name_of(m)) == m);
  }
  CHECK(test::error_of([] { from_name<Method>("kl"); }) ==
        "unknown calibration method 'kl'; use mse, percentile, entropy or max");
}
