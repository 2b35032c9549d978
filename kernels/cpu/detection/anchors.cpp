// SPDX-License-Identifier: Apache-2.0
#include "kernels/detection/anchors.h"

#include "kernels/cpu/namespace.h"

namespace sextant::kernels::SEXTANT_CPU {
namespace {

template <class T>
void generate(const AnchorsOf<T>& p) {
  int64_t a = 0;
  for (int l = 0; l < p.grid.levels; ++l) {
    const GridLevel& level = p.grid.level[l];
    const T stride = static_cast<T>(level.stride);
    const T unit = p.pixels ? stride : T(1);
    const T half = static_cast<T>(p.cell_size) * stride * T(0.5);
    for (int r = 0; r < p.grid.repeats; ++r)
      for (int64_t y = 0; y < level.height; ++y)
        for (int64_t x = 0; x < level.width; ++x, ++a) {
          const T cx = static_cast<T>(x) + static_cast<T>(p.grid.cell_offset);
          const T cy = static_cast<T>(y) + static_cast<T>(p.grid.cell_offset);
          p.points[2 * a] = cx * unit;
          p.points[2 * a + 1] = cy * unit;
          if (p.strides) p.strides[a] = stride;
          if (p.boxes) {
            T* b = p.boxes + 4 * a;
            b[0] = cx * stride - half;
            b[1] = cy * stride - half;
            b[2] = cx * stride + half;
            b[3] = cy * stride + half;
          }
        }
  }
}

}  // namespace

void generate_anchors(const AnchorsOf<float>& p) { generate(p); }
void generate_anchors(const AnchorsOf<double>& p) { generate(p); }

}  // namespace sextant::kernels::SEXTANT_CPU
