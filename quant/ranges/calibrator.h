// Choosing a range: the amax that symmetric quantization maps to its highest level.
//
// As pytorch-quantization 2.2.1 (calib/histogram.py, calib/max.py), with the same histograms and
// the same choices, only faster.
#pragma once

#include <cstdint>
#include <span>

#include "core/enum_names.h"
#include "core/tensor.h"
#include "quant/ranges/histogram.h"

namespace sextant::quant {

enum class Method {
  kMax,         // the largest |x|
  kPercentile,  // the lower edge of the bin in which the cumulated share reaches the percentile
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

// These take a non-empty histogram; a bin edge, an edge, a bin's centre. Every candidate from
// start_bin to the last bin is tried, by prefix sums in O(levels) each, on several threads.
//
// Percentile: edges[k] of the first k with cumulated share >= percentile / 100.
double percentile_amax(const Histogram& h, double percentile);
// Entropy: as the reference, the count of bin 0 is replaced by that of bin 1 first (zeros would
// outweigh everything), what lies beyond a candidate is added to its last bin, and of equal
// divergences the last wins. Beware: where the counts are concentrated in few bins, or have empty
// ones among them, the least divergence is that of clipping nearly everything.
double entropy_amax(const Histogram& h, const AmaxOptions& options);
// Mean squared error; of equal errors the first wins.
double mse_amax(const Histogram& h, const AmaxOptions& options);

enum class Binning {
  // Bins of width range / bins, range the smallest power of two that holds all values; when it has
  // to grow, neighbouring bins are merged, which is exact. The result depends only on the values:
  // not on their order, batches, or threads. Bins beyond the largest value are cut off, so that
  // `bins` to 2 * `bins` remain. One pass over the data. The one for calibrating.
  kNested,
  // A range given beforehand (a first pass with kMax finds it): also independent of order, batches
  // and threads. Larger values count in the last bin.
  kFixed,
  // The reference's default (torch): [0, largest |x| of the first batch] in `bins` bins; for a
  // larger value bins of the same width are added. Their width hangs on the first batch.
  kTorch,
  // The reference's numpy variant: the same from the smallest |x| of the first batch on; smaller
  // values in later batches are lost. Slow; to compare with.
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
  // Throws Error unless bins is in [2, 2^20], and range > 0 for kFixed; kNested wants a power of
  // two.
  explicit HistogramCollector(const CollectorOptions& options = {});

  // x in memory of `device`, where it is counted (by kNumpy on the host) and where the counts stay
  // until they are asked for or the range grows: a call brings back the largest |x|, which waits
  // for the device. All calls with one device. An empty batch changes nothing. Throws Error for NaN
  // and infinity, and where kTorch or kNumpy would have to grow beyond 2^22 bins (first batch far
  // smaller than the rest).
  void collect(std::span<const float> x, Device device = Device::kCpu);

  // 0 when nothing but zeros came. Throws Error for a percentile outside [0, 100], or when nothing
  // was collected.
  double amax(Method method, const AmaxOptions& options = {}) const;

  float max_seen() const { return max_seen_; }
  int64_t values() const { return values_; }
  // As the methods see it. Empty while only zeros came.
  Histogram histogram() const;

 private:
  void collect_nested(std::span<const float> x, float largest, Device device);
  void collect_torch(std::span<const float> x, float largest, Device device);
  void collect_numpy(std::span<const float> x, float largest);
  void count(std::span<const float> x, float range, Device device);
  std::vector<int64_t> counts() const;  // with those of the device
  void fetch_counts();

  CollectorOptions options_;
  Histogram histogram_;
  float max_seen_ = 0;
  int64_t values_ = 0;
  int64_t leading_zeros_ = 0;  // values of batches of zeros before the first other batch
  Tensor there_;               // I64: counts on a device that histogram_ has not yet
};

}  // namespace sextant::quant
