// SPDX-License-Identifier: Apache-2.0
// Detection of many images at a time, each on one thread from reading to boxes. That costs less than
// to share every layer of every image between the threads.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "deploy/detect/detector.h"

namespace sextant::deploy {

// Detectors over the same weights, as many as there are threads in run() at a time.
class DetectorPool {
 public:
  // Throws as Detector's constructor.
  DetectorPool(const Graph& graph, const DetectorConfig& config);

  // Whether several images at a time are faster: on a CPU with more than one thread. On a device one
  // is detected after the other.
  bool parallel() const { return parallel_; }
  // As Detector::run(); thread-safe.
  std::vector<kernels::Detection> run(const data::Image& image);
  // For one image at a time on all threads, and for a device.
  Detector& first() { return first_; }
  // Of all detectors; while none runs.
  DetectorTimes times() const;

 private:
  Detector first_;
  const bool parallel_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Detector>> idle_;
};

}  // namespace sextant::deploy
