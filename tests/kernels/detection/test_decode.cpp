// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "core/parallel.h"
#include "kernels/backend.h"
#include "support/support.h"

using namespace sextant;
using namespace sextant::kernels;
using namespace sextant::test;

namespace {

// Head outputs of three levels with the memory behind the pointers. With a pitch, the maps are
// slices of wider buffers whose other elements hold NaN.
struct Head {
  std::vector<std::vector<float>> cls, reg, obj;
  HeadMaps p;

  Head(int64_t batch, int64_t classes, int64_t reg_max, uint64_t seed, int64_t extra = 0,
       bool objectness = false) {
    p.batch = batch;
    p.classes = classes;
    p.reg_max = reg_max;
    p.levels = 3;
    Rng rng(seed);
    const int64_t shapes[3][2] = {{12, 16}, {6, 8}, {3, 4}};
    const int64_t channels = 4 * (reg_max + 1);
    for (int l = 0; l < 3; ++l) {
      const int64_t pixels = batch * shapes[l][0] * shapes[l][1];
      cls.emplace_back(pixels * (classes + extra), std::nanf(""));
      reg.emplace_back(pixels * (channels + extra), std::nanf(""));
      for (int64_t i = 0; i < pixels; ++i) {
        for (int64_t c = 0; c < classes; ++c)
          cls[l][i * (classes + extra) + c] = static_cast<float>(rng.uniform(-8, 3));
        for (int64_t c = 0; c < channels; ++c)
          reg[l][i * (channels + extra) + c] =
              static_cast<float>(reg_max > 0 ? rng.uniform(-4, 4) : rng.uniform(0.1, 6));
      }
    }
    for (int l = 0; l < 3; ++l) {
      p.level[l].cls = cls[l].data();
      p.level[l].reg = reg[l].data();
      p.level[l].height = shapes[l][0];
      p.level[l].width = shapes[l][1];
      p.level[l].stride = static_cast<float>(8 << l);
      if (extra > 0) {
        p.level[l].cls_pitch = classes + extra;
        p.level[l].reg_pitch = channels + extra;
      }
    }
    for (int l = 0; l < 3 && objectness; ++l) {  // last: what is drawn before stays
      const int64_t pixels = batch * shapes[l][0] * shapes[l][1];
      obj.emplace_back(pixels * (1 + extra), std::nanf(""));
      for (int64_t i = 0; i < pixels; ++i)
        obj[l][i * (1 + extra)] = static_cast<float>(rng.uniform(-4, 4));
      p.level[l].obj = obj[l].data();
      if (extra > 0) p.level[l].obj_pitch = 1 + extra;
    }
  }
  std::vector<float> decoded() const {
    std::vector<float> out(p.batch * p.anchors() * (5 + p.classes), -7.0f);
    backend(Device::kCpu).decode({p, out.data()});
    return out;
  }
};

}  // namespace

TEST_CASE("decode equals its plain definition") {
  for (const int64_t reg_max : {0, 7, 16, 80})
    for (const int64_t classes : {1, 3, 20}) {
      const bool objectness = classes != 3;
      const Head h(2, classes, reg_max, 40 + classes + reg_max, 0, objectness);
      const auto out = h.decoded();
      const int64_t width = 5 + classes, bins = reg_max + 1;
      size_t at = 0;
      double worst_box = 0, worst_score = 0;
      for (int64_t n = 0; n < 2; ++n)
        for (int l = 0; l < 3; ++l) {
          const DecodeLevel& v = h.p.level[l];
          for (int64_t y = 0; y < v.height; ++y)
            for (int64_t x = 0; x < v.width; ++x, at += static_cast<size_t>(width)) {
              const int64_t pixel = (n * v.height + y) * v.width + x;
              double dist[4];
              for (int64_t s = 0; s < 4; ++s) {
                const float* z = static_cast<const float*>(v.reg) + pixel * 4 * bins + s * bins;
                double sum = 0, moment = 0;
                for (int64_t k = 0; k < bins; ++k) {
                  sum += std::exp(static_cast<double>(z[k]));
                  moment += std::exp(static_cast<double>(z[k])) * static_cast<double>(k);
                }
                dist[s] = reg_max > 0 ? moment / sum : static_cast<double>(z[0]);
              }
              const double stride = v.stride, px = static_cast<double>(x) + 0.5,
                           py = static_cast<double>(y) + 0.5;
              const double want[4] = {(px + (dist[2] - dist[0]) / 2) * stride,
                                      (py + (dist[3] - dist[1]) / 2) * stride,
                                      (dist[0] + dist[2]) * stride, (dist[1] + dist[3]) * stride};
              for (size_t k = 0; k < 4; ++k)
                worst_box = std::max(worst_box, std::abs(want[k] - out[at + k]));
              if (objectness)
                worst_score = std::max(
                    worst_score,
                    std::abs(1 / (1 + std::exp(-double{static_cast<const float*>(v.obj)[pixel]})) -
                             out[at + 4]));
              else
                REQUIRE(out[at + 4] == 1.0f);
              for (int64_t c = 0; c < classes; ++c) {
                const double z = static_cast<const float*>(v.cls)[pixel * classes + c];
                worst_score = std::max(worst_score, std::abs(1 / (1 + std::exp(-z)) -
                                                             out[at + 5 + static_cast<size_t>(c)]));
              }
            }
        }
      REQUIRE(at == out.size());
      REQUIRE(worst_box < 2e-3);  // pixels, of coordinates up to 3,000
      REQUIRE(worst_score < 3e-7);
    }
}

TEST_CASE("decode reads slices of wider buffers") {
  for (const int64_t reg_max : {0, 16}) {
    const bool objectness = reg_max > 0;
    const Head dense(2, 5, reg_max, 9, 0, objectness), sliced(2, 5, reg_max, 9, 3, objectness);
    REQUIRE(dense.decoded() == sliced.decoded());
  }
}

TEST_CASE("decode does not depend on the number of threads") {
  const Head h(2, 6, 16, 3);
  const int before = num_threads();
  set_num_threads(1);
  const auto one = h.decoded();
  set_num_threads(3);
  const auto three = h.decoded();
  set_num_threads(before);
  REQUIRE(one == three);
}
