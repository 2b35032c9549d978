// SPDX-License-Identifier: Apache-2.0
// Renders augmented batches on the device, from raw bytes that stay there.
#pragma once

#include <cstdint>
#include <map>
#include <span>

#include "core/tensor.h"
#include "data/augment/augment.h"

namespace sextant::data {

class DevicePainter {
 public:
  // Images of the dataset are uploaded once and kept, up to this many bytes; others are uploaded
  // with each batch that uses them.
  explicit DevicePainter(int64_t budget_bytes) : left_bytes_(budget_bytes) {}

  // Returns u8 [N,height,width,3] on the device, rendered in one kernel (kernels/augment.h): as
  // paint() renders each plan, except where coordinates are within rounding of a step.
  Tensor paint(std::span<const AugmentPlan* const> plans, ImageSize size);

 private:
  Tensor upload(const AugmentPlan::Tile& tile);

  int64_t left_bytes_;
  std::map<int64_t, Tensor> images_;
};

// Resizes a batch u8 [N,H,W,3] on the device to height x width, like resize_batch().
Tensor resize_device_batch(const Tensor& images, int height, int width);

}  // namespace sextant::data
