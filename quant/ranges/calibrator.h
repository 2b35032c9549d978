// SPDX-License-Identifier: Apache-2.0
// Chooses a range: the amax that symmetric quantization maps to its highest level.
//
// Equivalent to pytorch-quantization 2.2.1 (calib/histogram.py, calib/max.py), with the same
// histograms and choices, but faster.
#pragma once

#include <cstdint>
#include <span>

#include "core/enum_names.h"
#include "core/tensor.h"
#include "quant/ranges/histogram.h"

namespace sextant::quant {

enum class Method {
  kMax,         // the largest |x|
  kPercentile,  // lower edge of the bin in which the cumulative share reaches the percentile
  kEntropy,     // least Kullback-Leibler divergence of the quantized from the clipped distribution
  kMse,         // least mean squared error of the quantized bin centres
};
constexpr auto enum_names(Method) {
  return make_enum_names<Method>("calibration method", {{Method::kMse, "mse"},
                                                        {Method::kPercentile, "percentile"},
                                                        {Method::kEntropy, "entropy"},
                                                        {Method::kMax, "max"}});
}

struct AmaxOptions {
  double percentile = 99.99;  // kPercentile, in [0, 100]
  int bits = 8;               // kEntropy, kMse
  bool is_unsigned = false;   // kEntropy, kMse: 2^bits levels from 0 instead of 2^(bits - 1)
  int64_t start_bin = 128;    // kEntropy, kMse: the smallest range tried, in bins
};

// These take a non-empty histogram. Percentile and entropy return a bin edge, mse a bin's centre.
// Every candidate from start_bin to the last bin is tried, in O(levels) each by prefix sums, on
// several threads.
//
// Percentile: edges[k] of the first k with cumulative share >= percentile / 100.
double percentile_amax(const Histogram& h, double percentile);
// Entropy: as the reference, the count of bin 0 is replaced by that of bin 1 first (zeros would
// outweigh everything), counts beyond a candidate are added to its last bin, and of equal
// divergences the last wins. Beware: when the counts are concentrated in few bins, or have empty
// bins among them, clipping nearly everything has the smallest divergence.
double entropy_amax(const Histogram& h, const AmaxOptions& options);
// Mean squared error; of equal errors the first wins.
double mse_amax(const Histogram& h, const AmaxOptions& options);

enum class Binning {
  // Bins of width range / bins, range the smallest power of two that holds all values; when it has
  // to grow, neighbouring bins are merged, which is exact. The result depends only on the values:
  // not on their order, batches, or threads. Bins beyond the largest value are cut off, so that
  // `bins` to 2 * `bins` remain. One pass over the data. The choice for calibration.
  kNested,
  // A fixed range (found by a first pass with kMax): also independent of order, batches and
  // threads. Larger values count in the last bin.
  kFixed,
  // The reference's default (torch): [0, largest |x| of the first batch] in `bins` bins; larger
  // values add bins of the same width, which depends on the first batch.
  kTorch,
  // The reference's numpy variant: the same, starting at the smallest |x| of the first batch;
  // smaller values in later batches are lost. Slow; for comparison only.
  kNumpy,
};

struct CollectorOptions {
  Binning binning = Binning::kNested;
  int64_t bins = 2048;
  float range = 0;  // kFixed
};

// Gathers |x| batch by batch.
//
//   HistogramCollector c;
//   for (...) c.collect(activation);
//   const double amax = c.amax(Method::kPercentile, {.percentile = 99.99});
class HistogramCollector {
 public:
  // Throws Error unless bins is in [2, 2^20] (a power of two for kNested), and range > 0 for
  // kFixed.
  explicit HistogramCollector(const CollectorOptions& options = {});

  // x lies in memory of `device` and is counted there (with kNumpy on the host). The counts stay
  // there until they are needed or the range grows; each call waits for the device to return the
  // largest |x|. All calls must use the same device. An empty batch changes nothing. Throws Error
  // for NaN and infinity, and when kTorch or kNumpy would have to grow beyond 2^22 bins (first
  // batch far smaller than the rest).
  void collect(std::span<const float> x, Device device = Device::kCpu);

  // 0 when all values were zero. Throws Error for a percentile outside [0, 100], or when nothing
  // was collected.
  double amax(Method method, const AmaxOptions& options = {}) const;

  float max_seen() const { return max_seen_; }
  int64_t values() const { return values_; }
  // The histogram that the methods use. Empty while all values were zero.
  Histogram histogram() const;

 private:
  void collect_nested(std::span<const float> x, float largest, Device device);
  void collect_torch(std::span<const float> x, float largest, Device device);
  void collect_numpy(std::span<const float> x, float largest);
  void count(std::span<const float> x, float range, Device device);
  std::vector<int64_t> counts() const;  // including those on the device
  void fetch_counts();

  CollectorOptions options_;
  Histogram histogram_;
  float max_seen_ = 0;
  int64_t values_ = 0;
  int64_t leading_zeros_ = 0;  // values in leading batches that were all zero
  Tensor there_;               // I64: counts on a device, not yet in histogram_
};

}  // namespace sextant::quant
