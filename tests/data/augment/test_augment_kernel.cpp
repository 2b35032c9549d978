// SPDX-License-Identifier: Apache-2.0
// The kernels that compute each result pixel independently, against the step-by-step code in
// data/augment.
#include "data/augment/augment.h"
#include "data/augment/hsv.h"
#include "data/image/letterbox.h"
#include "data/images.h"
#include "kernels/backend.h"
#include "support/support.h"

using namespace sextant;
using namespace sextant::data;

namespace {

Image random_image(int width, int height, uint64_t seed) {
  Rng rng(seed);
  Image image = make_image(width, height);
  for (uint8_t& p : image.pixels) p = static_cast<uint8_t>(rng.below(256));
  return image;
}

}  // namespace

TEST_CASE("letterboxing pixel by pixel is letterboxing") {
  for (const auto& [w, h] : std::vector<std::array<int, 2>>{
           {31, 47}, {128, 96}, {64, 64}, {97, 13}, {1, 1}, {200, 150}, {10, 200}}) {
    CAPTURE(w, h);
    const Image image = random_image(w, h, 3);
    const Letterboxed expected = letterbox(image, {64, 48});
    const LetterboxGeometry& g = expected.geometry;
    const kernels::LetterboxImage entry{image.pixels.data(), w,      h,    g.resized_width,
                                        g.resized_height,    g.left, g.top};
    Image out = make_image(64, 48);
    std::vector<float> floats(out.pixels.size());
    kernels::backend(Device::kCpu)
        .letterbox({&entry, 1, 64, 48, 114, out.pixels.data(), floats.data()});
    CHECK(out.pixels == expected.canvas.pixels);
    CHECK(floats[5] == static_cast<float>(out.pixels[5]) / 255.0f);
  }
}

TEST_CASE("augmenting pixel by pixel is mosaic, affine, mixup, jitter and flips") {
  constexpr int kSize = 48;
  Rng rng(5);
  for (int trial = 0; trial < 12; ++trial) {
    CAPTURE(trial);
    kernels::AugmentSample sample;
    std::vector<Image> images;
    for (uint64_t i = 0; i < 8; ++i)
      images.push_back(random_image(static_cast<int>(20 + rng.below(29)),
                                    static_cast<int>(20 + rng.below(29)), 10 + i));
    std::vector<Image> pictures;
    sample.pictures = trial % 3 == 0 ? 2 : 1;
    for (size_t k = 0; k < static_cast<size_t>(sample.pictures); ++k) {
      const int xc = static_cast<int>(kSize / 2 + rng.below(kSize)),
                yc = static_cast<int>(kSize / 2 + rng.below(kSize));
      std::array<MosaicTile, 4> tiles;
      kernels::AugmentPicture& p = sample.picture[k];
      p.images = 4;
      p.canvas_width = p.canvas_height = 2 * kSize;
      for (size_t t = 0; t < 4; ++t) {
        const Image& image = images[4 * k + t];
        tiles[t] = {&image, nullptr};
        p.image[t] = {image.pixels.data(), image.width, image.height,
                      t % 2 == 0 ? xc - image.width : xc, t < 2 ? yc - image.height : yc};
      }
      const test::Mosaic m = test::make_mosaic(tiles, kSize, kSize, xc, yc);
      const AffineMatrix matrix =
          affine_matrix(draw_affine({20, 0.1, 0.5, 5}, rng), 2 * kSize, 2 * kSize, kSize, kSize);
      const AffineMatrix back = inverse(matrix);
      std::copy(back.begin(), back.end(), p.inverse);
      pictures.push_back(warp_affine(m.canvas, matrix, kSize, kSize));
    }
    Image expected = pictures[0];
    if (sample.pictures == 2) {
      sample.mix_ratio = draw_mixup_ratio(rng);
      mixup(expected.pixels.data(), pictures[1].pixels.data(),
            static_cast<int64_t>(expected.pixels.size()), sample.mix_ratio);
    }
    if (trial % 2 == 0) {
      const HsvTables t = hsv_tables(1.01, 1.3, 0.8);
      sample.jitter = 1;
      std::copy(t.hue.begin(), t.hue.end(), sample.hue);
      std::copy(t.saturation.begin(), t.saturation.end(), sample.saturation);
      std::copy(t.value.begin(), t.value.end(), sample.value);
      apply_hsv(t, expected.pixels.data(), kSize * kSize);
    }
    sample.flip_up_down = trial % 4 == 1;
    sample.flip_left_right = trial % 5 < 2;
    if (sample.flip_up_down) flip_up_down(expected.pixels.data(), kSize, kSize);
    if (sample.flip_left_right) flip_left_right(expected.pixels.data(), kSize, kSize);
    Image out = make_image(kSize, kSize);
    kernels::backend(Device::kCpu)
        .augment({&sample, 1, kSize, kSize, 114, out.pixels.data(), nullptr});
    CHECK(out.pixels == expected.pixels);
  }
}
