// SPDX-License-Identifier: Apache-2.0
// Letterboxing and augmentation from raw bytes: one thread per result pixel, all steps in
// registers. Neighbouring pixels read neighbouring bytes, which the caches combine.
#include "kernels/cuda/device/each.cuh"
#include "kernels/math/augment.h"

namespace sextant::kernels::cuda {
namespace {

struct LetterboxOp {
  Letterbox p;
  PixelItems items;
  __device__ __forceinline__ void operator()(uint32_t i) const {
    const auto [n, y, x, channel] = items.place(i);
    uint8_t rgb[3];
    image::letterbox_pixel(p, n, x, y, rgb);
    image::write_pixel(p, i, rgb);
  }
};

struct AugmentOp {
  Augment p;
  PixelItems items;
  __device__ __forceinline__ void operator()(uint32_t i) const {
    const auto [n, y, x, channel] = items.place(i);
    uint8_t rgb[3];
    image::augmented_pixel(p, n, x, y, rgb);
    image::write_pixel(p, i, rgb);
  }
};

template <class Op, class P>
void run(const char* name, const P& p, Stream stream) {
  check(p.batch >= 0 && p.width >= 1 && p.height >= 1, "{}: {} results of {}x{}", name, p.batch,
        p.width, p.height);
  for_each_item(name, Op{p, PixelItems(p.height, p.width, 1, 1)}, p.batch * p.height * p.width,
                stream);
}

}  // namespace

void letterbox(const Letterbox& p, void*, Stream stream) {
  run<LetterboxOp>("letterbox", p, stream);
}

void augment(const Augment& p, void*, Stream stream) { run<AugmentOp>("augment", p, stream); }

}  // namespace sextant::kernels::cuda
