// SPDX-License-Identifier: Apache-2.0
#include "kernels/detection/decode.h"

#include <cmath>
#include <memory>

#include "simt/cases/cases.h"
#include "simt/cases/conv_reference.h"

namespace sextant::test {
namespace {

using namespace sextant::kernels;

struct LevelSize {
  int64_t h, w;
  float stride;
};

void check_anchors(TestGpu& gpu, const std::vector<LevelSize>& levels, int repeats, bool pixels,
                   bool all) {
  CAPTURE(levels.size(), repeats, pixels, all);
  GenerateAnchors p;
  p.grid.levels = static_cast<int>(levels.size());
  p.grid.repeats = repeats;
  p.pixels = pixels;
  std::vector<double> points_ref, strides_ref, boxes_ref;
  for (size_t l = 0; l < levels.size(); ++l) {
    p.grid.level[l] = {levels[l].h, levels[l].w, levels[l].stride};
    for (int64_t i = 0; i < repeats * levels[l].h * levels[l].w; ++i) {
      const double s = levels[l].stride, cx = static_cast<double>(i % levels[l].w) + 0.5,
                   cy = static_cast<double>(i / levels[l].w % levels[l].h) + 0.5;
      points_ref.insert(points_ref.end(), {cx * (pixels ? s : 1), cy * (pixels ? s : 1)});
      strides_ref.push_back(s);
      for (const double d : {-2.5, 2.5})
        boxes_ref.insert(boxes_ref.end(), {(cx + d) * s, (cy + d) * s});
    }
  }
  const int64_t n = p.grid.anchors();
  std::vector<float> points_cpu = undefined(2 * n), strides_cpu = undefined(n),
                     boxes_cpu = undefined(4 * n);
  p.points = points_cpu.data();
  p.strides = strides_cpu.data();
  p.boxes = boxes_cpu.data();
  host_kernels().generate_anchors(p);
  const DeviceArray points(gpu, undefined(2 * n)), strides(gpu, undefined(n)),
      boxes(gpu, undefined(4 * n));
  p.points = points.data();
  p.strides = all ? strides.data() : nullptr;
  p.boxes = all ? boxes.data() : nullptr;
  start<AnchorsOf<float>>(gpu, cuda::generate_anchors, p);
  CHECK(worst_error(points.values(), points_ref) < 1e-6);
  CHECK(worst_error(points.values(), points_cpu) < 1e-6);
  if (all) {
    CHECK(worst_error(strides.values(), strides_ref) == 0);
    CHECK(worst_error(boxes.values(), boxes_ref) < 1e-6);
    CHECK(worst_error(boxes.values(), boxes_cpu) < 1e-6);
  } else {
    strides.require_unchanged();
    boxes.require_unchanged();
  }
}

// In double, exactly.
void check_wide_anchors(TestGpu& gpu, const std::vector<LevelSize>& levels, int repeats) {
  CAPTURE(levels.size(), repeats);
  AnchorsOf<double> p;
  p.grid.levels = static_cast<int>(levels.size());
  p.grid.repeats = repeats;
  std::vector<double> points_ref, strides_ref, boxes_ref;
  for (size_t l = 0; l < levels.size(); ++l) {
    p.grid.level[l] = {levels[l].h, levels[l].w, levels[l].stride};
    for (int64_t i = 0; i < repeats * levels[l].h * levels[l].w; ++i) {
      const double s = levels[l].stride, cx = static_cast<double>(i % levels[l].w) + 0.5,
                   cy = static_cast<double>(i / levels[l].w % levels[l].h) + 0.5;
      points_ref.insert(points_ref.end(), {cx * s, cy * s});
      strides_ref.push_back(s);
      for (const double d : {-2.5, 2.5})
        boxes_ref.insert(boxes_ref.end(), {(cx + d) * s, (cy + d) * s});
    }
  }
  const std::vector<double> none(boxes_ref.size(), std::nan(""));
  std::vector<double> points_cpu(points_ref.size()), strides_cpu(strides_ref.size()),
      boxes_cpu = none;
  p.points = points_cpu.data();
  p.strides = strides_cpu.data();
  p.boxes = boxes_cpu.data();
  host_kernels().generate_anchors(p);
  const DeviceArrayOf<double> points(gpu, {none.begin(), none.begin() + p.grid.anchors() * 2}),
      strides(gpu, {none.begin(), none.begin() + p.grid.anchors()}), boxes(gpu, none);
  p.points = points.data();
  p.strides = strides.data();
  p.boxes = boxes.data();
  start<AnchorsOf<double>>(gpu, cuda::generate_anchors, p);
  CHECK(points.values() == points_ref);
  CHECK(points_cpu == points_ref);
  CHECK(strides.values() == strides_ref);
  CHECK(strides_cpu == strides_ref);
  CHECK(boxes.values() == boxes_ref);
  CHECK(boxes_cpu == boxes_ref);
}

// `wide`: the maps are slices of wider buffers.
void check_decode(TestGpu& gpu, const std::vector<LevelSize>& levels, int64_t batch,
                  int64_t classes, int64_t reg_max, bool wide, bool objectness,
                  DType dtype = DType::kF32) {
  CAPTURE(levels.size(), batch, classes, reg_max, wide, objectness, name_of(dtype));
  HeadMaps p;
  p.levels = static_cast<int>(levels.size());
  p.batch = batch;
  p.classes = classes;
  p.reg_max = reg_max;
  const int64_t bins = reg_max + 1, cls_pitch = classes + (wide ? 4 : 0),
                reg_pitch = 4 * bins + (wide ? 3 : 0), obj_pitch = wide ? 2 : 1;
  std::vector<std::vector<float>> cls, reg, obj;
  std::vector<std::unique_ptr<DeviceMemory>> arrays;
  HeadMaps on_device = p;
  for (size_t l = 0; l < levels.size(); ++l) {
    const int64_t pixels = levels[l].h * levels[l].w;
    const int64_t rows = batch * pixels;
    cls.push_back(random_values(rows * cls_pitch, 141 + l, -8, 8));
    reg.push_back(random_values(rows * reg_pitch, 151 + l, 0, 6));
    // the device's map, and here what it holds
    const auto there = [&](std::vector<float>& map, int64_t offset) -> const void* {
      return with_type(dtype, [&](auto t) -> const void* {
        using T = decltype(t);
        const std::vector<T> stored = pack<T>(map);
        map = unpack(stored);
        arrays.push_back(std::make_unique<DeviceArrayOf<T>>(gpu, stored, offset));
        return arrays.back()->data();
      });
    };
    DecodeLevel level;
    level.height = levels[l].h;
    level.width = levels[l].w;
    level.stride = levels[l].stride;
    level.cls_pitch = wide ? cls_pitch : 0;
    level.reg_pitch = wide ? reg_pitch : 0;
    level.cls = there(cls[l], 1);
    level.reg = there(reg[l], 0);
    if (objectness) {
      obj.push_back(random_values(rows * obj_pitch, 161 + l, -8, 8));
      level.obj = there(obj[l], 1);
      level.obj_pitch = wide ? obj_pitch : 0;
    }
    on_device.level[l] = level;
    level.cls = cls[l].data();
    level.reg = reg[l].data();
    if (objectness) level.obj = obj[l].data();
    p.level[l] = level;
  }
  on_device.dtype = dtype;
  on_device.levels = p.levels;
  const int64_t n = batch * p.anchors() * (5 + classes);
  std::vector<double> ref;
  for (int64_t image = 0; image < batch; ++image)
    for (size_t l = 0; l < levels.size(); ++l)
      for (int64_t i = 0; i < levels[l].h * levels[l].w; ++i) {
        const int64_t pixel = image * levels[l].h * levels[l].w + i;
        double dist[4] = {};
        for (int64_t side = 0; side < 4; ++side) {
          const float* z = reg[l].data() + pixel * reg_pitch + side * bins;
          double sum = 0, moment = 0;
          for (int64_t k = 0; k < bins; ++k) {
            sum += std::exp(double{z[k]});
            moment += std::exp(double{z[k]}) * static_cast<double>(k);
          }
          dist[side] = reg_max > 0 ? moment / sum : z[0];
        }
        const double s = levels[l].stride, cx = static_cast<double>(i % levels[l].w) + 0.5,
                     cy = static_cast<double>(i / levels[l].w) + 0.5;
        ref.insert(
            ref.end(),
            {(cx + (dist[2] - dist[0]) / 2) * s, (cy + (dist[3] - dist[1]) / 2) * s,
             (dist[0] + dist[2]) * s, (dist[1] + dist[3]) * s,
             objectness
                 ? 1 / (1 + std::exp(-double{obj[l][static_cast<size_t>(pixel * obj_pitch)]}))
                 : 1.0});
        for (int64_t c = 0; c < classes; ++c)
          ref.push_back(
              1 / (1 + std::exp(-double{cls[l][static_cast<size_t>(pixel * cls_pitch + c)]})));
      }
  std::vector<float> twin = undefined(n);
  host_kernels().decode({p, twin.data()});
  const DeviceArray out(gpu, undefined(n));
  start(gpu, cuda::decode, {on_device, out.data()});
  // A centre is a small difference of distances, times the stride.
  CHECK(worst_error(out.values(), ref) < 3e-5);
  CHECK(worst_error(out.values(), twin) < 3e-5);
  for (const auto& a : arrays) a->require_unchanged();
}

// Gradients against their formulas and the CPU's.
void check_decode_backward(TestGpu& gpu, const std::vector<LevelSize>& levels, int64_t batch,
                           int64_t classes, int64_t reg_max, bool objectness) {
  CAPTURE(levels.size(), batch, classes, reg_max, objectness);
  const int64_t bins = reg_max + 1, row = 5 + classes;
  DecodeBackward host;
  HeadMaps& p = host.maps;
  p.levels = static_cast<int>(levels.size());
  p.batch = batch;
  p.classes = classes;
  p.reg_max = reg_max;
  struct Maps {
    std::vector<float> cls, reg, obj;
  };
  std::vector<Maps> maps, twin;
  for (size_t l = 0; l < levels.size(); ++l) {
    const int64_t pixels = batch * levels[l].h * levels[l].w;
    maps.push_back({random_values(pixels * classes, 241 + l, -4, 4),
                    random_values(pixels * 4 * bins, 251 + l, 0, 4),
                    random_values(pixels, 261 + l, -4, 4)});
    twin.push_back({undefined(pixels * classes), undefined(pixels * 4 * bins), undefined(pixels)});
    p.level[l] = {maps[l].cls.data(), maps[l].reg.data(), levels[l].h, levels[l].w,
                  levels[l].stride};
    if (objectness) p.level[l].obj = maps[l].obj.data();
    host.grad[l] = {twin[l].cls.data(), twin[l].reg.data(),
                    objectness ? twin[l].obj.data() : nullptr};
  }
  const int64_t n = batch * p.anchors() * row;
  std::vector<float> out(static_cast<size_t>(n));
  host_kernels().decode({p, out.data()});
  const std::vector<float> dy = random_values(n, 271, -1, 1);
  host.out = out.data();
  host.dy = dy.data();
  host_kernels().decode_backward(host);

  DecodeBackward there = host;
  const DeviceArray out_there(gpu, out, 1), dy_there(gpu, dy);
  there.out = out_there.data();
  there.dy = dy_there.data();
  std::vector<std::unique_ptr<DeviceArray>> inputs, results;
  const auto at = [&](auto& list, const std::vector<float>& values) {
    list.push_back(std::make_unique<DeviceArray>(gpu, values));
    return list.back()->data();
  };
  for (size_t l = 0; l < levels.size(); ++l) {
    there.maps.level[l].cls = at(inputs, maps[l].cls);
    there.maps.level[l].reg = at(inputs, maps[l].reg);
    if (objectness) there.maps.level[l].obj = at(inputs, maps[l].obj);
    const auto undefined_like = [&](const std::vector<float>& v) {
      return at(results, undefined(static_cast<int64_t>(v.size())));
    };
    there.grad[l] = {undefined_like(maps[l].cls), undefined_like(maps[l].reg),
                     undefined_like(maps[l].obj)};
    if (!objectness) there.grad[l].obj = nullptr;
  }
  start(gpu, cuda::decode_backward, there);
  for (const auto& a : inputs) a->require_unchanged();
  out_there.require_unchanged();
  dy_there.require_unchanged();

  int64_t first = 0;
  for (size_t l = 0; l < levels.size(); ++l) {
    const int64_t pixels = levels[l].h * levels[l].w;
    std::vector<double> dcls, dreg, dobj;
    for (int64_t i = 0; i < batch * pixels; ++i) {
      const float* g = dy.data() + (i / pixels * p.anchors() + first + i % pixels) * row;
      const auto logistic = [](double z) { return 1 / (1 + std::exp(-z)); };
      const auto logit = [&](double z, double d) { return d * logistic(z) * (1 - logistic(z)); };
      for (int64_t c = 0; c < classes; ++c)
        dcls.push_back(logit(maps[l].cls[static_cast<size_t>(i * classes + c)], g[5 + c]));
      dobj.push_back(logit(maps[l].obj[static_cast<size_t>(i)], g[4]));
      for (int side = 0; side < 4; ++side) {
        const double d =
            levels[l].stride * (g[2 + side % 2] + (side < 2 ? -0.5 : 0.5) * g[side % 2]);
        if (bins == 1) {
          dreg.push_back(d);
          continue;
        }
        const float* z = maps[l].reg.data() + (4 * i + side) * bins;
        double sum = 0, moment = 0;
        for (int64_t k = 0; k < bins; ++k) {
          sum += std::exp(double{z[k]});
          moment += std::exp(double{z[k]}) * static_cast<double>(k);
        }
        for (int64_t k = 0; k < bins; ++k)
          dreg.push_back(std::exp(double{z[k]}) / sum * d *
                         (static_cast<double>(k) - moment / sum));
      }
    }
    first += pixels;
    CHECK(worst_error(results[3 * l]->values(), dcls) < 1e-6);
    CHECK(worst_error(results[3 * l]->values(), twin[l].cls) < 1e-6);
    CHECK(worst_error(results[3 * l + 1]->values(), dreg) < 1e-5);
    CHECK(worst_error(results[3 * l + 1]->values(), twin[l].reg) < 1e-5);
    if (objectness) {
      CHECK(worst_error(results[3 * l + 2]->values(), dobj) < 1e-6);
      CHECK(worst_error(results[3 * l + 2]->values(), twin[l].obj) < 1e-6);
    } else {
      results[3 * l + 2]->require_unchanged();
    }
  }
}

}  // namespace

// Anchor points, and the head's outputs as boxes and scores.
KERNEL_CASE("anchor and decode kernels") {
  const std::vector<LevelSize> one = {{1, 1, 8}};
  const std::vector<LevelSize> three = {{8, 6, 8}, {4, 3, 16}, {2, 1, 32}};
  for (const uint64_t seed : gpu.seeds()) {
    gpu.start(seed);
    for (const auto& levels : {one, three}) {
      for (const int repeats : {1, 3}) {
        for (const bool pixels : {false, true})
          check_anchors(gpu, levels, repeats, pixels, pixels || repeats == 3);
        check_wide_anchors(gpu, levels, repeats);
      }
      for (const int64_t batch : {0, 1, 3})
        for (const int64_t classes : {1, 3, 17, 80})
          for (const int64_t reg_max : {0, 16})
            for (const bool objectness : {false, true})
              check_decode(gpu, levels, batch, classes, reg_max, classes == 17, objectness);
      for (const int64_t batch : {0, 1, 3})
        for (const int64_t classes : {1, 3, 17, 80})
          for (const int64_t reg_max : {0, 16})
            check_decode_backward(gpu, levels, batch, classes, reg_max, classes % 2 == 1);
      for (const int64_t reg_max : {0, 16})
        for (const bool wide : {false, true})
          check_decode(gpu, levels, 2, 17, reg_max, wide, wide, DType::kF16);
    }
  }
}

}  // namespace sextant::test
