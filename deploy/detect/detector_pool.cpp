// SPDX-License-Identifier: Apache-2.0
#include "deploy/detect/detector_pool.h"

#include "core/parallel.h"

namespace sextant::deploy {

DetectorPool::DetectorPool(const Graph& graph, const DetectorConfig& config)
    : first_(graph, config),
      batch_(config.batch),
      parallel_(config.device == Device::kCpu && num_threads() > 1) {
  // On a CPU the first image costs no more than the others.
  if (config.device == Device::kCuda) first_.warm_up();
}

std::vector<std::vector<kernels::Detection>> DetectorPool::run(
    std::span<const data::Image* const> images) {
  std::unique_ptr<Detector> detector;
  {
    const std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      detector = std::move(idle_.back());
      idle_.pop_back();
    }
  }
  if (!detector) detector = std::make_unique<Detector>(first_.sibling());
  auto found = detector->run(images);
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(detector));
  return found;
}

DetectorTimes DetectorPool::times() const {
  DetectorTimes sum = first_.times();
  for (const auto& detector : idle_) sum += detector->times();
  return sum;
}

int batch_for_many(const DetectorConfig& config) {
  if (config.device == Device::kCuda) return 16;
  return config.precision == Precision::kInt8 && !config.simulate ? 2 : 1;
}

}  // namespace sextant::deploy
