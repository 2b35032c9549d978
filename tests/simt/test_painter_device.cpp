// SPDX-License-Identifier: Apache-2.0
// Augmentation and resizing on the device against the host's.
#include "data/image/resize.h"
#include "data/images.h"
#include "data/loading/device_painter.h"
#include "simt/accelerator.h"
#include "support/support.h"

namespace sextant::test {
namespace {

using namespace data;

struct Pictures {
  std::vector<std::shared_ptr<const Image>> images;
  std::vector<std::vector<Label>> labels;
  explicit Pictures(int size) {
    for (int k = 0; k < 5; ++k) {
      images.push_back(std::make_shared<const Image>(
          pattern(size, size * (2 + k) / 6, static_cast<uint64_t>(k))));
      labels.push_back({{k, 0.5f, 0.5f, 0.4f, 0.4f, false, 0}});
    }
  }
  SampleSource source() const {
    return {static_cast<int64_t>(images.size()), [this](int64_t k) {
              const auto i = static_cast<size_t>(k);
              return LoadedSample{images[i], &labels[i], k};
            }};
  }
};

TEST_CASE("device painter: equals the host's painting, from images uploaded once") {
  const TestDevice device;
  if (!device.usable()) return;
  constexpr int kSize = 40;
  const Pictures pictures(kSize);
  AugmentConfig config;
  config.degrees = 10;
  config.mixup = 0.5;
  config.flipud = 0.5;
  config.mosaic = 0.7;
  // A budget for some of the images only.
  DevicePainter painter(3 * kSize * kSize);
  int64_t different = 0, values = 0;
  for (uint64_t round = 0; round < 2; ++round) {
    const ImageSize size{round == 0 ? kSize : kSize + 17, kSize};
    std::vector<AugmentPlan> plans;
    std::vector<const AugmentPlan*> list;
    for (uint64_t n = 0; n < 4; ++n) {
      Rng rng(17 * round + n);
      plans.push_back(
          plan_augmentation(pictures.source(), static_cast<int64_t>(n), size, config, n != 3, rng));
    }
    for (const AugmentPlan& plan : plans) list.push_back(&plan);
    const Tensor batch = painter.paint(list, size).to(Device::kCpu);
    REQUIRE(batch.shape() == Shape{4, size.height, size.width, 3});
    Image canvas, expected = make_image(size.width, size.height);
    for (size_t n = 0; n < plans.size(); ++n) {
      paint(plans[n], size, canvas, expected.pixels.data());
      const uint8_t* got = batch.data<uint8_t>() + n * expected.pixels.size();
      for (size_t i = 0; i < expected.pixels.size(); ++i) {
        REQUIRE(std::abs(int{got[i]} - int{expected.pixels[i]}) <= 1);
        different += got[i] != expected.pixels[i];
        ++values;
      }
    }
  }
  CHECK(different * 1000 <= values);
}

TEST_CASE("device batches are resized as the host's") {
  const TestDevice device;
  if (!device.usable()) return;
  const Tensor images(Shape{2, 20, 24, 3}, DType::kU8);
  Rng rng(3);
  for (uint8_t& v : images.span<uint8_t>()) v = static_cast<uint8_t>(rng.below(256));
  for (const auto& [h, w] : std::vector<std::pair<int, int>>{{10, 12}, {31, 17}, {20, 24}}) {
    CAPTURE(h, w);
    const Tensor expected = resize_batch(images, h, w);
    const Tensor got = resize_device_batch(images.to(Device::kCuda), h, w).to(Device::kCpu);
    CHECK(std::ranges::equal(got.span<uint8_t>(), expected.span<uint8_t>()));
  }
}

}  // namespace
}  // namespace sextant::test
