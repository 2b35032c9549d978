// SPDX-License-Identifier: Apache-2.0
#include "kernels/math/augment.h"

#include "core/parallel.h"
#include "kernels/cpu/namespace.h"

namespace sextant::kernels::SEXTANT_CPU {
namespace {

// f(p, n, x, y, rgb) for every pixel of every result.
template <class P, class F>
void each_pixel(const P& p, const F& f) {
  parallel_for(p.batch * p.height, 8, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      for (int x = 0; x < p.width; ++x) {
        uint8_t rgb[3];
        f(p, r / p.height, x, static_cast<int>(r % p.height), rgb);
        image::write_pixel(p, r * p.width + x, rgb);
      }
  });
}

}  // namespace

void letterbox(const Letterbox& p) { each_pixel(p, image::letterbox_pixel); }

void augment(const Augment& p) { each_pixel(p, image::augmented_pixel); }

}  // namespace sextant::kernels::SEXTANT_CPU
