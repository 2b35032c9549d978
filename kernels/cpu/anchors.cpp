#include "kernels/anchors.h"

namespace sextant::kernels::cpu {

void generate_anchors(const GenerateAnchors& p) {
  int64_t a = 0;
  for (int l = 0; l < p.grid.levels; ++l) {
    const GridLevel& level = p.grid.level[l];
    const float unit = p.pixels ? level.stride : 1.0f;
    const float half = p.cell_size * level.stride * 0.5f;
    for (int r = 0; r < p.grid.repeats; ++r)
      for (int64_t y = 0; y < level.height; ++y)
        for (int64_t x = 0; x < level.width; ++x, ++a) {
          const float cx = static_cast<float>(x) + p.grid.cell_offset;
          const float cy = static_cast<float>(y) + p.grid.cell_offset;
          p.points[2 * a] = cx * unit;
          p.points[2 * a + 1] = cy * unit;
          if (p.strides) p.strides[a] = level.stride;
          if (p.boxes) {
            float* b = p.boxes + 4 * a;
            b[0] = cx * level.stride - half;
            b[1] = cy * level.stride - half;
            b[2] = cx * level.stride + half;
            b[3] = cy * level.stride + half;
          }
        }
  }
}

}  // namespace sextant::kernels::cpu
