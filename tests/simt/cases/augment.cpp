// SPDX-License-Identifier: Apache-2.0
#include "kernels/augment.h"

#include <cmath>
#include <memory>

#include "simt/cases/cases.h"

namespace sextant::test {
namespace {

using namespace sextant::kernels;

std::vector<uint8_t> random_bytes(int64_t n, uint64_t seed) {
  Rng rng(seed);
  std::vector<uint8_t> out;
  for (int64_t i = 0; i < n; ++i) out.push_back(static_cast<uint8_t>(rng.below(256)));
  return out;
}

// Images on the host and on the device.
class Images {
 public:
  explicit Images(TestGpu& gpu) : gpu_(gpu) {}
  size_t add(int width, int height) {
    host_.push_back(random_bytes(int64_t{3} * width * height, 7 + host_.size()));
    device_.push_back(std::make_unique<DeviceArrayOf<uint8_t>>(gpu_, host_.back()));
    return host_.size() - 1;
  }
  const uint8_t* host(size_t i) const { return host_[i].data(); }
  const uint8_t* device(size_t i) const { return device_[i]->data(); }
  void require_unchanged() const {
    for (const auto& d : device_) d->require_unchanged();
  }

 private:
  TestGpu& gpu_;
  std::vector<std::vector<uint8_t>> host_;
  std::vector<std::unique_ptr<DeviceArrayOf<uint8_t>>> device_;
};

// Within one grey level, and that for few values only: a coordinate may lie on an edge.
void check_close(const std::vector<uint8_t>& a, const std::vector<uint8_t>& b) {
  REQUIRE(a.size() == b.size());
  int64_t differ = 0;
  int most = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const int d = std::abs(int{a[i]} - int{b[i]});
    most = std::max(most, d);
    differ += d != 0;
  }
  CHECK(most <= 1);
  CHECK(differ * 1000 <= static_cast<int64_t>(a.size()));
}

// Runs `host` on the CPU and `device` on the device; their outputs are set here. Returns the
// bytes.
template <class P, class OnHost, class OnDevice>
std::vector<uint8_t> compare(TestGpu& gpu, P host, P device, const OnHost& on_host,
                             const OnDevice& on_device) {
  const int64_t n = host.batch * host.height * host.width * 3;
  std::vector<uint8_t> bytes(static_cast<size_t>(n), 77);
  std::vector<float> floats = undefined(n);
  host.bytes = bytes.data();
  host.floats = floats.data();
  on_host(host);
  const DeviceArrayOf<uint8_t> bytes_d(gpu, std::vector<uint8_t>(bytes.size(), 77), 1);
  const DeviceArray floats_d(gpu, undefined(n)), alone(gpu, undefined(n));
  device.bytes = bytes_d.data();
  device.floats = floats_d.data();
  on_device(device);
  device.bytes = nullptr;
  device.floats = alone.data();
  on_device(device);
  const std::vector<uint8_t> found = bytes_d.values();
  check_close(found, bytes);
  const std::vector<float> values = floats_d.values();
  std::vector<double> scaled;
  for (const uint8_t b : found) scaled.push_back(b / 255.0);
  CHECK(worst_error(values, scaled) < 1e-7);
  CHECK(same_bits(alone.values(), values));
  return found;
}

void check_letterbox(TestGpu& gpu, int width, int height,
                     const std::vector<LetterboxImage>& shapes) {
  CAPTURE(width, height, shapes.size());
  Images images(gpu);
  std::vector<LetterboxImage> host = shapes, device = shapes;
  for (size_t i = 0; i < shapes.size(); ++i) {
    CAPTURE(shapes[i].width, shapes[i].height, shapes[i].resized_width, shapes[i].resized_height);
    const size_t k = images.add(shapes[i].width, shapes[i].height);
    host[i].pixels = images.host(k);
    device[i].pixels = images.device(k);
  }
  const DeviceArrayOf<LetterboxImage> list(gpu, device);
  Letterbox p;
  p.batch = static_cast<int64_t>(shapes.size());
  p.width = width;
  p.height = height;
  Letterbox q = p;
  p.images = host.data();
  q.images = list.data();
  const std::vector<uint8_t> out = compare(
      gpu, p, q, [](const Letterbox& b) { host_kernels().letterbox(b); },
      [&](const Letterbox& b) { start(gpu, cuda::letterbox, b); });
  // Grey around, the image as it is where it keeps its size.
  for (size_t n = 0; n < shapes.size(); ++n) {
    const LetterboxImage& s = shapes[n];
    int wrong = 0;
    for (int y = 0; y < height; ++y)
      for (int x = 0; x < width; ++x) {
        const int column = x - s.left, row = y - s.top;
        const bool outside =
            column < 0 || row < 0 || column >= s.resized_width || row >= s.resized_height;
        if (!outside && (s.resized_width != s.width || s.resized_height != s.height)) continue;
        for (int c = 0; c < 3; ++c) {
          const auto at =
              static_cast<size_t>(((static_cast<int64_t>(n) * height + y) * width + x) * 3 + c);
          wrong += out[at] != (outside ? 114 : host[n].pixels[3 * (row * s.width + column) + c]);
        }
      }
    CHECK(wrong == 0);
  }
  images.require_unchanged();
  list.require_unchanged();
}

// A mosaic of four images around (xc, yc) on a canvas of twice the size.
AugmentPicture mosaic(const Images& images, bool on_device, size_t first, int size, int xc, int yc,
                      const double (&inverse)[6]) {
  static constexpr int kSides[4][2] = {{13, 17}, {20, 9}, {5, 30}, {24, 24}};
  AugmentPicture p;
  p.images = 4;
  p.canvas_width = p.canvas_height = 2 * size;
  for (int k = 0; k < 4; ++k) {
    const int w = kSides[k][0], h = kSides[k][1];
    const size_t i = first + static_cast<size_t>(k);
    p.image[k] = {on_device ? images.device(i) : images.host(i), w, h, k % 2 == 0 ? xc - w : xc,
                  k < 2 ? yc - h : yc};
  }
  std::copy_n(inverse, 6, p.inverse);
  return p;
}

void check_augment(TestGpu& gpu, int size) {
  CAPTURE(size);
  Images images(gpu);
  for (int i = 0; i < 2; ++i) {
    images.add(13, 17);
    images.add(20, 9);
    images.add(5, 30);
    images.add(24, 24);
  }
  const double identity[6] = {1, 0, 0, 0, 1, 0};
  const double turned[6] = {0.8, 0.3, 1.7, -0.35, 0.9, 5.2};
  const double shrunk[6] = {1.9, 0, -3.4, 0, 1.9, 2.6};
  const auto samples = [&](bool on_device) {
    std::vector<AugmentSample> out(6);
    const int c = size;
    out[0].picture[0] = mosaic(images, on_device, 0, size, c, c, identity);
    out[1].picture[0] = mosaic(images, on_device, 0, size, c - 3, c + 2, turned);
    out[1].flip_left_right = 1;
    out[2].picture[0] = mosaic(images, on_device, 4, size, c / 2, c, shrunk);
    out[2].picture[1] = mosaic(images, on_device, 0, size, c, c / 2 + 1, turned);
    out[2].pictures = 2;
    out[2].mix_ratio = 0.4375;
    out[2].flip_up_down = 1;
    out[3].picture[0] = mosaic(images, on_device, 4, size, c, c, shrunk);
    out[3].jitter = 1;
    out[4] = out[2];
    out[4].jitter = 1;
    out[4].flip_left_right = 1;
    for (const size_t k : {size_t{3}, size_t{4}})
      for (int i = 0; i < 256; ++i) {
        out[k].hue[i] = static_cast<uint8_t>(static_cast<int>(i * 1.013) % 180);
        out[k].saturation[i] = static_cast<uint8_t>(std::min(255.0, i * 1.4));
        out[k].value[i] = static_cast<uint8_t>(i * 0.8);
      }
    out[5].picture[0].canvas_width = size;  // no image at all
    out[5].picture[0].canvas_height = size;
    std::copy_n(identity, 6, out[5].picture[0].inverse);
    return out;
  };
  const std::vector<AugmentSample> host = samples(false);
  const DeviceArrayOf<AugmentSample> list(gpu, samples(true));
  Augment p;
  p.batch = static_cast<int64_t>(host.size());
  p.width = size;
  p.height = size + 3;
  Augment q = p;
  p.samples = host.data();
  q.samples = list.data();
  const std::vector<uint8_t> out = compare(
      gpu, p, q, [](const Augment& b) { host_kernels().augment(b); },
      [&](const Augment& b) { start(gpu, cuda::augment, b); });
  // The first is the canvas itself, the last all grey.
  int wrong = 0;
  const int64_t pixels = int64_t{size} * (size + 3);
  for (int64_t i = 0; i < pixels; ++i) {
    const int x = static_cast<int>(i % size), y = static_cast<int>(i / size);
    const uint8_t* expected = nullptr;
    for (const PlacedImage& t : host[0].picture[0].image) {
      const int column = x - t.left, row = y - t.top;
      if (y < 2 * size && column >= 0 && row >= 0 && column < t.width && row < t.height)
        expected = t.pixels + 3 * (row * t.width + column);
    }
    for (int c = 0; c < 3; ++c) {
      wrong += out[static_cast<size_t>(3 * i + c)] != (expected ? expected[c] : 114);
      wrong += out[static_cast<size_t>(3 * (5 * pixels + i) + c)] != 114;
    }
  }
  CHECK(wrong == 0);
  images.require_unchanged();
  list.require_unchanged();
}

}  // namespace

// Letterboxing, and mosaic, affine, mixup, jitter and flips in one pass.
KERNEL_CASE("letterbox and augmentation kernels") {
  for (const uint64_t seed : gpu.seeds()) {
    gpu.start(seed);
    // One pixel; enlarged, shrunk, halved, as it is; several at once.
    check_letterbox(gpu, 1, 1, {{nullptr, 1, 1, 1, 1, 0, 0}});
    check_letterbox(gpu, 32, 24,
                    {{nullptr, 7, 5, 32, 23, 0, 0},
                     {nullptr, 50, 61, 20, 24, 6, 0},
                     {nullptr, 40, 20, 20, 10, 6, 7},
                     {nullptr, 18, 12, 18, 12, 7, 6},
                     {nullptr, 1, 3, 8, 24, 12, 0}});
    for (const int size : {1, 17, 24}) check_augment(gpu, size);
  }
}

}  // namespace sextant::test
