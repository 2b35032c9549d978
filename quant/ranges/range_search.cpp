// SPDX-License-Identifier: Apache-2.0
// The searches over a histogram, in O(levels) for each candidate.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "core/error.h"
#include "core/parallel.h"
#include "quant/ranges/calibrator.h"

namespace sextant::quant {
namespace {

// sums[k] = sum of value(0 .. k - 1).
template <class Value>
std::vector<double> prefix_sums(int64_t n, const Value& value) {
  std::vector<double> sums(static_cast<size_t>(n) + 1);
  for (int64_t k = 0; k < n; ++k) {
    sums[static_cast<size_t>(k) + 1] = sums[static_cast<size_t>(k)] + value(k);
  }
  return sums;
}

double n_log_n(double n) { return n > 0 ? n * std::log(n) : 0.0; }

// cost(candidate) for every candidate of [first, last), on several threads.
template <class Cost>
std::vector<double> costs_of(int64_t first, int64_t last, const Cost& cost) {
  std::vector<double> costs(static_cast<size_t>(last - first));
  parallel_for(last - first, 32, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) costs[static_cast<size_t>(k)] = cost(first + k);
  });
  return costs;
}

// Precomputed sums for the entropy of a candidate, after the zeros were replaced.
struct EntropySums {
  std::vector<double> counts;   // per bin
  std::vector<double> below;    // prefix sums of counts
  std::vector<double> n_log_n;  // prefix sums of n log n
  std::vector<double> filled;   // prefix sums of [count > 0]
};

// KL(p || q) of the first `bins` bins. p are the counts, with everything beyond added to the last
// bin; q the counts averaged within each of `levels` equal groups over the group's filled bins;
// both are normalised. With T, S the sums of p and q, m the mean of a bin's group:
//   sum_j p_j / T * (log p_j - log T - log m_j + log S)
// where the sum over a group of p_j log m_j is its count times log m.
double divergence(const EntropySums& s, int64_t bins, int64_t levels) {
  const auto last = static_cast<size_t>(bins) - 1;
  const double inside = s.below[last + 1];
  const double total = s.below.back();
  const double beyond = total - inside;
  const double top = s.counts[last];
  const double infinity = std::numeric_limits<double>::infinity();
  // The reference divides 0 by 0 here, and numpy's argmin treats NaN as the minimum.
  if (inside <= 0) return -infinity;
  if (top <= 0 && beyond > 0) return infinity;  // p > 0 where q is 0
  double cross = 0;
  double mean = 1;
  for (int64_t g = 0; g < levels; ++g) {
    // Bin j belongs to group g when g * bins / levels <= j < (g + 1) * bins / levels.
    const auto begin = static_cast<size_t>((g * bins + levels - 1) / levels);
    const auto end = static_cast<size_t>(((g + 1) * bins + levels - 1) / levels);
    const double count = s.below[end] - s.below[begin];
    if (count <= 0) continue;
    mean = count / (s.filled[end] - s.filled[begin]);
    cross += count * std::log(mean);
  }
  // `mean` now belongs to the last filled group, which is top's if `top` is filled.
  if (beyond > 0) cross += beyond * std::log(mean);
  const double own = s.n_log_n[last] + n_log_n(top + beyond);
  return (own - cross) / total + std::log(inside) - std::log(total);
}

// Moments of the bin centres, for sums of squared errors over stretches of bins.
struct Moments {
  std::vector<double> n;
  std::vector<double> nc;
  std::vector<double> ncc;
};

}  // namespace

double percentile_amax(const Histogram& h, double percentile) {
  check(percentile >= 0 && percentile <= 100, "calibration: percentile {} is not in [0, 100]",
        percentile);
  const auto total = static_cast<double>(h.total());
  const double goal = percentile / 100;
  double share = 0;
  size_t k = 0;
  for (; k < h.counts.size(); ++k) {
    share += static_cast<double>(h.counts[k]) / total;
    if (share >= goal) break;
  }
  return h.edges[k];
}

double entropy_amax(const Histogram& h, const AmaxOptions& options) {
  const int64_t bins = h.bins();
  const int64_t levels = int64_t{1} << (options.bits - 1 + (options.is_unsigned ? 1 : 0));
  EntropySums s;
  s.counts.assign(h.counts.begin(), h.counts.end());
  if (bins > 1) s.counts[0] = s.counts[1];
  const auto count = [&](int64_t k) { return s.counts[static_cast<size_t>(k)]; };
  s.below = prefix_sums(bins, count);
  s.n_log_n = prefix_sums(bins, [&](int64_t k) { return n_log_n(count(k)); });
  s.filled = prefix_sums(bins, [&](int64_t k) { return count(k) > 0 ? 1.0 : 0.0; });
  const int64_t first = std::clamp<int64_t>(options.start_bin, 1, bins);
  const auto costs = costs_of(first, bins + 1, [&](int64_t k) { return divergence(s, k, levels); });
  // The last of equal minima: searches from the end.
  const auto best = std::min_element(costs.rbegin(), costs.rend());
  return h.edges[static_cast<size_t>(first + (costs.rend() - best) - 1)];
}

double mse_amax(const Histogram& h, const AmaxOptions& options) {
  const int64_t bins = h.bins();
  const auto top = static_cast<int64_t>(
      (int64_t{1} << (options.is_unsigned ? options.bits : options.bits - 1)) - 1);
  const auto centre = [&](int64_t k) {
    const auto i = static_cast<size_t>(k);
    const auto sum = static_cast<float>(h.edges[i + 1]) + static_cast<float>(h.edges[i]);
    return static_cast<double>(sum / 2.0f);
  };
  const auto count = [&](int64_t k) {
    return static_cast<double>(h.counts[static_cast<size_t>(k)]);
  };
  Moments m;
  m.n = prefix_sums(bins, count);
  m.nc = prefix_sums(bins, [&](int64_t k) { return count(k) * centre(k); });
  m.ncc = prefix_sums(bins, [&](int64_t k) { return count(k) * centre(k) * centre(k); });
  const double start = h.edges.front();
  const double width = (h.edges.back() - start) / static_cast<double>(bins);
  const auto cost = [&](int64_t candidate) {
    const double amax = centre(candidate);
    if (amax <= 0x1p-24) return m.ncc.back();  // the reference then quantizes everything to 0
    const double step = amax / static_cast<double>(top);
    double error = 0;
    size_t begin = 0;
    for (int64_t level = 0; level <= top; ++level) {
      // The first bin whose centre is nearer to the next level; the top level takes all the rest.
      auto end = static_cast<size_t>(bins);
      if (level < top) {
        const double edge = (static_cast<double>(level) + 0.5) * step;
        const double place = std::ceil((edge - start) / width - 0.5);
        end = static_cast<size_t>(
            std::clamp(place, static_cast<double>(begin), static_cast<double>(bins)));
      }
      const double value = static_cast<double>(level) * step;
      error += (m.ncc[end] - m.ncc[begin]) - 2 * value * (m.nc[end] - m.nc[begin]) +
               value * value * (m.n[end] - m.n[begin]);
      begin = end;
    }
    return error;
  };
  const int64_t first = std::clamp<int64_t>(options.start_bin, 0, bins - 1);
  const auto costs = costs_of(first, bins, cost);
  const auto best = std::min_element(costs.begin(), costs.end());
  return centre(first + (best - costs.begin()));
}

}  // namespace sextant::quant
