// SPDX-License-Identifier: Apache-2.0
#include "data/synthetic/shapes_dataset.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <exception>

#include "core/config.h"
#include "core/error.h"
#include "core/file.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "data/synthetic/shapes_paint.h"

namespace sextant::data {
namespace {

using namespace shapes;

constexpr int kNobody = -1;

uint64_t hash(const std::string& text) {  // FNV-1a
  uint64_t h = 14695981039346656037ull;
  for (const char c : text) h = (h ^ static_cast<unsigned char>(c)) * 1099511628211ull;
  return h;
}

void check_config(const ShapesConfig& c) {
  check(c.width >= 32 && c.height >= 32 && c.width <= 8192 && c.height <= 8192,
        "shapes: width {} and height {} must be in [32, 8192]", c.width, c.height);
  check(c.train >= 0 && c.val >= 0 && c.train <= 1000000 && c.val <= 1000000,
        "shapes: train {} and val {} must be in [0, 1000000]", c.train, c.val);
  check(c.min_shapes >= 1 && c.max_shapes >= c.min_shapes && c.max_shapes <= 100,
        "shapes: min_shapes {} and max_shapes {} must be rising and in [1, 100]", c.min_shapes,
        c.max_shapes);
  check(c.min_size > 0 && c.max_size >= c.min_size && c.max_size <= 1,
        "shapes: min_size {} and max_size {} must be rising and in (0, 1]", c.min_size, c.max_size);
  check(c.min_size * std::min(c.width, c.height) >= 6,
        "shapes: min_size {} of {} pixels is less than 6 pixels", c.min_size,
        std::min(c.width, c.height));
  check(c.min_visible >= 0 && c.min_visible <= 0.9, "shapes: min_visible {} must be in [0, 0.9]",
        c.min_visible);
}

// The picture under construction, and the topmost shape at each pixel.
class Scene {
 public:
  Scene(const ShapesConfig& config, Rng& rng)
      : config_(config),
        image_(make_ground(config.width, config.height, rng)),
        owner_(static_cast<size_t>(config.width) * static_cast<size_t>(config.height), kNobody) {}

  // Whether every earlier shape stays sufficiently visible under `mask`.
  bool leaves_visible(const Mask& mask) const {
    std::vector<int64_t> hidden(shapes_.size());
    each_pixel(mask, [&](size_t i) {
      if (owner_[i] != kNobody) ++hidden[static_cast<size_t>(owner_[i])];
    });
    for (size_t k = 0; k < shapes_.size(); ++k)
      if (static_cast<double>(shapes_[k].visible - hidden[k]) <
          std::max(config_.min_visible, 0.05) * static_cast<double>(shapes_[k].area))
        return false;
    return true;
  }

  void add_shape(int class_id, const Outline& outline, const Mask& mask) {
    const int me = static_cast<int>(shapes_.size());
    const Rect& b = outline.bounds;
    shapes_.push_back(
        {{class_id, std::max(b.x0, 0.0), std::max(b.y0, 0.0), std::min<double>(b.x1, config_.width),
          std::min<double>(b.y1, config_.height)},
         mask.area,
         inside(mask)});
    cover(mask, me);
  }

  // Marks the pixels as covered by something that is not a shape.
  void cover(const Mask& mask, int who = kNobody) {
    each_pixel(mask, [&](size_t i) {
      if (owner_[i] != kNobody) --shapes_[static_cast<size_t>(owner_[i])].visible;
      owner_[i] = who;
    });
  }

  // Pixels of the mask within the picture.
  int64_t inside(const Mask& mask) const {
    int64_t n = 0;
    each_pixel(mask, [&](size_t) { ++n; });
    return n;
  }

  std::vector<ShapeBox> boxes() const {
    std::vector<ShapeBox> out;
    for (const Placed& s : shapes_)
      if (static_cast<double>(s.visible) >= config_.min_visible * static_cast<double>(s.area))
        out.push_back(s.box);
    return out;
  }
  Image& image() { return image_; }

 private:
  struct Placed {
    ShapeBox box;
    int64_t area;     // including the part outside the picture
    int64_t visible;  // of it
  };

  template <class F>
  void each_pixel(const Mask& mask, const F& f) const {
    mask.each([&](int x, int y, float coverage) {
      if (coverage > 0.5f && x >= 0 && y >= 0 && x < config_.width && y < config_.height)
        f(static_cast<size_t>(y) * static_cast<size_t>(config_.width) + static_cast<size_t>(x));
    });
  }

  const ShapesConfig& config_;
  Image image_;
  std::vector<int> owner_;
  std::vector<Placed> shapes_;
};

struct Light {
  double dx, dy, softness, strength;
};

void add_clutter(Scene& scene, const ShapesConfig& config, Rng& rng, int64_t count, bool strokes) {
  const double side = std::min(config.width, config.height);
  for (int64_t i = 0; i < count; ++i) {
    const bool blob = !strokes && rng.below(5) < 2;
    const Outline o = blob ? make_blob(rng.uniform(0, config.width), rng.uniform(0, config.height),
                                       rng.uniform(0.08, 0.5) * side, rng)
                           : make_stroke(config.width, config.height, rng);
    const Mask mask = rasterize(o);
    const Color color = contrasting_color(mean_color(scene.image(), mask), rng);
    const double alpha = rng.uniform(0.35, 1);
    if (!scene.leaves_visible(mask)) continue;
    paint(
        scene.image(), o, mask, [&](double, double, double) { return color; }, alpha);
    scene.cover(mask);
  }
}

// Places one shape where it does not hide earlier ones; gives up after some attempts.
bool add_shape(Scene& scene, const ShapesConfig& config, const Light& light, bool first, Rng& rng) {
  const double side = std::min(config.width, config.height);
  const int class_id = static_cast<int>(rng.below(static_cast<int64_t>(shape_names().size())));
  for (int attempt = 0; attempt < 12; ++attempt) {
    const double size =
        side * config.min_size * std::pow(config.max_size / config.min_size, rng.uniform());
    // The first shape lies inside the picture, so that no picture is empty.
    const double margin = first ? size / 2 : size * 0.1;
    const double x = rng.uniform(margin, config.width - margin);
    const double y = rng.uniform(margin, config.height - margin);
    const Outline o = make_shape(class_id, x, y, size, rng);
    const Mask mask = rasterize(o);
    if (static_cast<double>(scene.inside(mask)) <
        std::max(0.55, config.min_visible) * static_cast<double>(mask.area))
      continue;
    if (!scene.leaves_visible(mask)) continue;
    const Color color = contrasting_color(mean_color(scene.image(), mask), rng);
    if (light.strength > 0)
      paint_shadow(scene.image(), o, light.dx, light.dy, light.softness, light.strength);
    paint(scene.image(), o, mask, make_fill(color, size, rng), 1);
    scene.add_shape(class_id, o, mask);
    return true;
  }
  return false;
}

std::string label_text(const ShapesSample& sample) {
  std::string text;
  const double w = sample.image.width, h = sample.image.height;
  for (const ShapeBox& b : sample.boxes)
    text += fmt::format("{} {:.6f} {:.6f} {:.6f} {:.6f}\n", b.class_id, (b.x0 + b.x1) / 2 / w,
                        (b.y0 + b.y1) / 2 / h, (b.x1 - b.x0) / w, (b.y1 - b.y0) / h);
  return text;
}

}  // namespace

const std::vector<std::string>& shape_names() {
  static const std::vector<std::string> names{"circle", "square", "triangle",
                                              "star",   "cross",  "ring"};
  return names;
}

ShapesSample draw_shapes(const ShapesConfig& config, const std::string& split, int64_t index) {
  check_config(config);
  Rng rng(config.seed, splitmix64(hash(split)) + static_cast<uint64_t>(index));
  Scene scene(config, rng);
  const double side = std::min(config.width, config.height);
  Light light{rng.uniform(-0.02, 0.02) * side, rng.uniform(0.005, 0.025) * side,
              rng.uniform(0.008, 0.03) * side, rng.uniform(0.2, 0.5)};
  if (rng.below(3) == 0) light.strength = 0;
  add_clutter(scene, config, rng, 2 + rng.below(7), false);
  const int64_t count = config.min_shapes + rng.below(config.max_shapes - config.min_shapes + 1);
  for (int64_t i = 0; i < count; ++i) add_shape(scene, config, light, i == 0, rng);
  add_clutter(scene, config, rng, rng.below(4), true);
  finish(scene.image(), rng);
  return {std::move(scene.image()), scene.boxes()};
}

void generate_shapes(const std::filesystem::path& folder, const ShapesConfig& config) {
  check_config(config);
  const std::array<std::pair<std::string, int64_t>, 2> splits{
      {{"train", config.train}, {"val", config.val}}};
  const int64_t total = splits[0].second + splits[1].second;
  std::vector<std::exception_ptr> errors(static_cast<size_t>(total));
  parallel_for(total, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const auto& split = splits[i < splits[0].second ? 0 : 1];
      const int64_t index = i < splits[0].second ? i : i - splits[0].second;
      const std::string name = fmt::format("{:06d}", index);
      try {
        const ShapesSample sample = draw_shapes(config, split.first, index);
        save_png(folder / "images" / split.first / (name + ".png"), sample.image);
        write_atomically(folder / "labels" / split.first / (name + ".txt"), label_text(sample));
      } catch (...) {
        errors[static_cast<size_t>(i)] = std::current_exception();
        return;
      }
    }
  });
  for (const auto& e : errors)
    if (e) std::rethrow_exception(e);
  write_atomically(folder / "classes.json", Json({{"names", shape_names()}}).dump() + "\n");
}

}  // namespace sextant::data
