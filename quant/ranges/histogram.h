// SPDX-License-Identifier: Apache-2.0
// Histograms of |x|, counted fast (kernels/histogram.h): a calibration counts every activation of a
// detector on every image, some 10 million values per image at 640 px.
//
// If a function takes a device, x lies in its memory and is counted there; only the maximum is
// copied to the host.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/device.h"

namespace sextant::quant {

// counts[k] values lie in [edges[k], edges[k + 1]), the last bin's upper edge included. Bins have
// equal width up to rounding; edges has one entry more than counts, and both are empty until a
// value other than 0 was seen. Edges are double only for kNumpy; otherwise they hold f32 values.
struct Histogram {
  std::vector<int64_t> counts;
  std::vector<double> edges;

  int64_t bins() const { return static_cast<int64_t>(counts.size()); }
  int64_t total() const;
};

// Largest |x|; 0 for an empty span. Throws Error when a value is NaN or infinite, saying how many.
float max_abs(std::span<const float> x, Device device = Device::kCpu);

// Adds every |x| to the bin min(trunc(|x| / range * bins), bins - 1) of `counts` in f32, as
// torch.histc(x.abs(), bins, 0, range) of PyTorch 1.13 does. range > 0; bins < 2^24; x finite.
// `counts` lies with x. The counts do not depend on threads or device.
void count_linear(std::span<const float> x, float range, std::span<int64_t> counts,
                  Device device = Device::kCpu);

// Adds every |x| that lies within the edges to its bin, by comparison with the edges, as
// numpy.histogram does. Slower, one thread, x on the host; edges ascend by about equal steps.
void count_by_edges(std::span<const float> x, std::span<const double> edges,
                    std::span<int64_t> counts);

// amax[c] = max(amax[c], largest |x| of channel c) for x of [outer, amax.size(), inner]: the max
// calibrator along an axis. Throws Error when the size of x does not match, or it has a NaN or an
// infinity.
void update_channel_max(std::span<const float> x, int64_t outer, int64_t inner,
                        std::span<float> amax, Device device = Device::kCpu);

// A copy on the host of x, which lies in a device's memory.
std::vector<float> to_host(std::span<const float> x, Device device);

}  // namespace sextant::quant
