// SPDX-License-Identifier: Apache-2.0
// Detection of many images at a time, each on one thread from reading to boxes. That costs less than
// to share every layer of every image between the threads.
#pragma once

#include <memory>
#include <mutex>
#include <span>
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
  std::vector<std::vector<kernels::Detection>> run(std::span<const data::Image* const> images);
  // For one image at a time on all threads, and for a device.
  Detector& first() { return first_; }
  int batch() const { return batch_; }
  // Of all detectors; while none runs.
  DetectorTimes times() const;

 private:
  Detector first_;
  const int batch_;
  const bool parallel_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Detector>> idle_;
};

// A batch that makes the most of many images: in int8 a thread's weights serve two, a device wants
// more. In f32 a second image takes from the cache what it saves.
int batch_for_many(const DetectorConfig& config);

}  // namespace sextant::deploy
