// SPDX-License-Identifier: Apache-2.0
#include "data/loading/device_painter.h"

#include <algorithm>
#include <vector>

#include "core/device_bytes.h"
#include "kernels/backend.h"

namespace sextant::data {
namespace {}  // namespace

Tensor DevicePainter::upload(const AugmentPlan::Tile& tile) {
  if (const auto found = images_.find(tile.index); found != images_.end()) return found->second;
  const Image& image = *tile.image;
  const auto bytes = static_cast<int64_t>(image.pixels.size());
  const Tensor there = device_bytes(std::span<const uint8_t>(image.pixels));
  if (tile.index >= 0 && bytes <= left_bytes_) {
    left_bytes_ -= bytes;
    images_.emplace(tile.index, there);
  }
  return there;
}

Tensor DevicePainter::paint(std::span<const AugmentPlan* const> plans, ImageSize size) {
  std::vector<kernels::AugmentSample> samples(plans.size());
  std::vector<Tensor> in_use;
  for (size_t n = 0; n < plans.size(); ++n) {
    const AugmentPlan& plan = *plans[n];
    kernels::AugmentSample& s = samples[n];
    s.pictures = static_cast<int32_t>(plan.pictures.size());
    s.mix_ratio = plan.mix_ratio;
    for (size_t k = 0; k < plan.pictures.size(); ++k) {
      const AugmentPlan::Picture& from = plan.pictures[k];
      kernels::AugmentPicture& to = s.picture[k];
      to.images = static_cast<int32_t>(from.tiles.size());
      to.canvas_width = from.canvas_width;
      to.canvas_height = from.canvas_height;
      std::ranges::copy(inverse(from.matrix), to.inverse);
      for (size_t t = 0; t < from.tiles.size(); ++t) {
        const AugmentPlan::Tile& tile = from.tiles[t];
        in_use.push_back(upload(tile));
        to.image[t] = {in_use.back().data<uint8_t>(), tile.image->width, tile.image->height,
                       tile.left, tile.top};
      }
    }
    if (plan.colors) {
      s.jitter = 1;
      std::ranges::copy(plan.colors->hue, s.hue);
      std::ranges::copy(plan.colors->saturation, s.saturation);
      std::ranges::copy(plan.colors->value, s.value);
    }
    s.flip_up_down = plan.flip_up_down;
    s.flip_left_right = plan.flip_left_right;
  }
  const auto batch = static_cast<int64_t>(plans.size());
  const Tensor list = device_bytes(std::span<const kernels::AugmentSample>(samples));
  Tensor out(Shape{batch, size.height, size.width, 3}, DType::kU8, Device::kCuda);
  kernels::backend(Device::kCuda)
      .augment({static_cast<const kernels::AugmentSample*>(list.raw()), batch, size.width,
                size.height, kPadValue, out.data<uint8_t>()});
  return out;
}

Tensor resize_device_batch(const Tensor& images, int height, int width) {
  check(images.shape().rank() == 4 && images.dtype() == DType::kU8 && images.dim(3) == 3,
        "resize: batch {} is not U8 [N,H,W,3]", images.shape().str());
  const int64_t batch = images.dim(0);
  std::vector<kernels::LetterboxImage> list;
  for (int64_t n = 0; n < batch; ++n)
    list.push_back({images.data<uint8_t>() + n * (images.numel() / batch),
                    static_cast<int32_t>(images.dim(2)), static_cast<int32_t>(images.dim(1)), width,
                    height, 0, 0});
  const Tensor there = device_bytes(std::span<const kernels::LetterboxImage>(list));
  Tensor out(Shape{batch, height, width, 3}, DType::kU8, Device::kCuda);
  kernels::backend(Device::kCuda)
      .letterbox({static_cast<const kernels::LetterboxImage*>(there.raw()), batch, width, height,
                  kPadValue, out.data<uint8_t>()});
  return out;
}

}  // namespace sextant::data
