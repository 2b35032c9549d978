// SPDX-License-Identifier: Apache-2.0
#include "quant/ranges/calibrator.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "core/error.h"

namespace sextant::quant {
namespace {

constexpr double kMaxBins = 1 << 22;
// Smaller ranges would make bins / range overflow; no activation has them.
constexpr float kLeastRange = 0x1p-100f;

void check_growth(double bins, float from, float to) {
  check(
      bins <= kMaxBins,
      "calibration: the range grew from {} to {}, too far for bins of the first batch's width; use "
      "nested or fixed binning",
      from, to);
}

// start + k * width with one rounding after the product and one after the sum (no fused
// multiply-add), as the reference's loops have them.
float step_edge(float start, int64_t k, float width) {
  const auto product = static_cast<float>(static_cast<double>(k) * static_cast<double>(width));
  return start + product;
}

}  // namespace

HistogramCollector::HistogramCollector(const CollectorOptions& options) : options_(options) {
  check(options.bins >= 2 && options.bins <= (1 << 20),
        "calibration: {} bins, must be between 2 and 2^20", options.bins);
  if (options.binning == Binning::kNested) {
    check(std::has_single_bit(static_cast<uint64_t>(options.bins)),
          "calibration: nested binning needs a power of two bins, not {}", options.bins);
  }
  if (options.binning != Binning::kFixed) return;
  check(options.range > 0 && std::isfinite(options.range),
        "calibration: fixed binning needs a range > 0, not {}", options.range);
  const auto bins = static_cast<size_t>(options.bins);
  histogram_.counts.assign(bins, 0);
  histogram_.edges.resize(bins + 1);
  for (size_t k = 0; k <= bins; ++k) {
    histogram_.edges[k] = static_cast<float>(static_cast<double>(options.range) *
                                             static_cast<double>(k) / static_cast<double>(bins));
  }
}

void HistogramCollector::collect(std::span<const float> x, Device device) {
  if (x.empty()) return;
  const float largest = max_abs(x, device);
  max_seen_ = std::max(max_seen_, largest);
  values_ += static_cast<int64_t>(x.size());
  if (histogram_.counts.empty() && largest == 0) {
    leading_zeros_ += static_cast<int64_t>(x.size());
    return;
  }
  switch (options_.binning) {
    case Binning::kNested:
      collect_nested(x, largest, device);
      break;
    case Binning::kFixed:
      count(x, options_.range, device);
      break;
    case Binning::kTorch:
      collect_torch(x, largest, device);
      break;
    case Binning::kNumpy:
      collect_numpy(to_host(x, device), largest);
      break;
  }
}

// Each copy of a collector has its own counts.
void HistogramCollector::count(std::span<const float> x, float range, Device device) {
  if (device == Device::kCpu) return count_linear(x, range, histogram_.counts);
  if (!there_.defined())
    there_ = Tensor::zeros(Shape{std::ssize(histogram_.counts)}, DType::kI64, device);
  else if (!there_.unique())
    there_ = there_.clone();
  count_linear(x, range, {there_.data<int64_t>(), static_cast<size_t>(there_.numel())}, device);
}

std::vector<int64_t> HistogramCollector::counts() const {
  std::vector<int64_t> all = histogram_.counts;
  if (!there_.defined()) return all;
  const Tensor here = there_.to(Device::kCpu);
  for (size_t k = 0; k < all.size(); ++k) all[k] += here.span<int64_t>()[k];
  return all;
}

void HistogramCollector::fetch_counts() {
  histogram_.counts = counts();
  there_ = Tensor();
}

// counts over [0, edges.back()); edges holds the range alone until histogram() is asked for. Twice
// the bins, since up to half of the range may lie beyond the largest value. Bins and range are
// powers of two, so bin numbers are exact, and halving the resolution is a shift.
void HistogramCollector::collect_nested(std::span<const float> x, float largest, Device device) {
  auto& counts = histogram_.counts;
  // Strictly above the largest value, so that no value lies on the edge.
  const auto range_of = [](float value) {
    return std::ldexp(1.0f, std::ilogb(std::max(value, kLeastRange)) + 1);
  };
  if (counts.empty()) {
    counts.assign(static_cast<size_t>(2 * options_.bins), 0);
    counts[0] = leading_zeros_;
    options_.range = range_of(largest);
  }
  if (largest >= options_.range) fetch_counts();
  while (largest >= options_.range) {
    for (size_t k = 0; k < counts.size() / 2; ++k) counts[k] = counts[2 * k] + counts[2 * k + 1];
    std::fill(counts.begin() + static_cast<std::ptrdiff_t>(counts.size() / 2), counts.end(), 0);
    options_.range *= 2;
  }
  count(x, options_.range, device);
}

void HistogramCollector::collect_torch(std::span<const float> x, float largest, Device device) {
  auto& [counts, edges] = histogram_;
  if (counts.empty()) {
    // torch.linspace: from both ends towards the middle.
    const auto bins = options_.bins;
    const float step = largest / static_cast<float>(bins);
    counts.assign(static_cast<size_t>(bins), 0);
    counts[0] = leading_zeros_;
    for (int64_t k = 0; k <= bins; ++k) {
      edges.push_back(k < (bins + 1) / 2 ? step_edge(0.0f, k, step)
                                         : step_edge(largest, bins - k, -step));
    }
  } else if (largest > edges.back()) {
    const auto width = static_cast<float>(edges[1] - edges[0]);
    const double bins = std::ceil(largest / width);
    check_growth(bins, static_cast<float>(edges.back()), largest);
    fetch_counts();
    counts.resize(static_cast<size_t>(bins), 0);
    edges.resize(counts.size() + 1);
    for (size_t k = 0; k < edges.size(); ++k) {
      edges[k] = static_cast<float>(static_cast<double>(k) * static_cast<double>(width));
    }
  }
  count(x, static_cast<float>(edges.back()), device);
}

void HistogramCollector::collect_numpy(std::span<const float> x, float largest) {
  auto& [counts, edges] = histogram_;
  if (counts.empty()) {
    float smallest = leading_zeros_ > 0 ? 0.0f : largest;
    for (const float v : x) smallest = std::min(smallest, std::fabs(v));
    const double low = smallest < largest ? smallest : smallest - 0.5;
    const double high = smallest < largest ? largest : largest + 0.5;
    const double step = (high - low) / static_cast<double>(options_.bins);
    counts.assign(static_cast<size_t>(options_.bins), 0);
    counts[0] = leading_zeros_;
    for (int64_t k = 0; k < options_.bins; ++k) {
      edges.push_back(static_cast<float>(static_cast<double>(k) * step + low));
    }
    edges.push_back(static_cast<float>(high));
  } else if (largest > edges.back()) {
    // numpy.arange(edges.back() + width, largest + width, width): doubles, out of arguments that
    // were computed in f32 as long as the edges were f32, before the first growth.
    const bool grown = counts.size() > static_cast<size_t>(options_.bins);
    const auto rounded = [&](double v) { return grown ? v : static_cast<float>(v); };
    const double width = rounded(edges[1] - edges[0]);
    const double start = rounded(edges.back() + width);
    const double delta = rounded(start + width) - start;
    const double more = std::ceil(rounded(rounded(rounded(largest + width) - start) / width));
    check_growth(static_cast<double>(edges.size()) + more, static_cast<float>(edges.back()),
                 largest);
    for (int64_t k = 0; k < static_cast<int64_t>(more); ++k) {
      edges.push_back(start + static_cast<double>(k) * delta);
    }
    counts.resize(edges.size() - 1, 0);
  }
  count_by_edges(x, edges, counts);
}

Histogram HistogramCollector::histogram() const {
  Histogram h{counts(), histogram_.edges};
  if (options_.binning != Binning::kNested || h.counts.empty()) return h;
  // Cut off behind the bin of the largest value.
  const auto all = static_cast<double>(h.counts.size());
  const auto bins = static_cast<int64_t>(max_seen_ * all / options_.range) + 1;
  h.counts.resize(static_cast<size_t>(bins));
  for (int64_t k = 0; k <= bins; ++k) {
    h.edges.push_back(static_cast<float>(static_cast<double>(k) * options_.range / all));
  }
  return h;
}

double HistogramCollector::amax(Method method, const AmaxOptions& options) const {
  check(values_ > 0, "calibration: no values were collected");
  if (max_seen_ == 0) return 0;
  if (method == Method::kMax) return max_seen_;
  const Histogram h = histogram();
  switch (method) {
    case Method::kPercentile:
      return percentile_amax(h, options.percentile);
    case Method::kEntropy:
      return entropy_amax(h, options);
    default:
      return mse_amax(h, options);
  }
}

}  // namespace sextant::quant
