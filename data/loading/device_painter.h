// Augmented batches made on the device, from raw bytes that stay there.
#pragma once

#include <cstdint>
#include <map>
#include <span>

#include "core/tensor.h"
#include "data/augment/augment.h"

namespace sextant::data {

class DevicePainter {
 public:
  // Images of the dataset are uploaded once and kept, up to so many bytes; others go along with
  // each batch that shows them.
  explicit DevicePainter(int64_t budget_bytes) : left_bytes_(budget_bytes) {}

  // u8 [N,size,size,3] on the device, in one kernel (kernels/augment.h): what paint() makes of each
  // plan, but for coordinates within rounding of a step.
  Tensor paint(std::span<const AugmentPlan* const> plans, int size);

 private:
  Tensor upload(const AugmentPlan::Tile& tile);

  int64_t left_bytes_;
  std::map<int64_t, Tensor> images_;
};

// A batch u8 [N,H,W,3] on the device at height x width, as resize_batch().
Tensor resize_device_batch(const Tensor& images, int height, int width);

}  // namespace sextant::data
