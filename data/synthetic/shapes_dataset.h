// A detection set made by drawing: shapes of six classes on textured grounds, among things that are
// no class. For demonstrations and tests where no photographs are at hand.
//
// The set is neither trivial nor out of reach for a small net in a few minutes: size, colour, fill,
// rotation and aspect vary; shapes overlap and are cut by the border; lines, blobs and scribbles
// lie under and over them; blur and noise differ between images.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "data/image/image.h"

namespace sextant::data {

struct ShapesConfig {
  int train = 400;
  int val = 100;
  int width = 320;
  int height = 240;
  uint64_t seed = 1;
  int min_shapes = 1;
  int max_shapes = 7;
  // Size of a shape (its circumscribed diameter) as a fraction of the shorter image side;
  // log-uniform, so that small ones are common.
  double min_size = 0.10;
  double max_size = 0.55;
  // A shape of which less than this fraction can be seen gets no label.
  double min_visible = 0.5;
};

// circle, square, triangle, star, cross, ring; index = class id.
const std::vector<std::string>& shape_names();

// Pixels, corners; within the image. Around the drawn shape as if nothing lay over it, cut at the
// image border.
struct ShapeBox {
  int class_id = 0;
  double x0 = 0, y0 = 0, x1 = 0, y1 = 0;
};

struct ShapesSample {
  Image image;
  std::vector<ShapeBox> boxes;  // at least one
};

// Picture number `index` of a split ("train" or "val", or any name); depends on nothing but the
// config's drawing fields, the seed, the split's name and the index.
// Throws Error for a config out of range (sides < 32, sizes outside (0, 1], ...).
ShapesSample draw_shapes(const ShapesConfig& config, const std::string& split, int64_t index);

// Writes folder/images/<split>/NNNNNN.png, folder/labels/<split>/NNNNNN.txt (YOLO text: class cx cy
// w h, relative) and folder/classes.json, each file atomically, in parallel. Files already there
// are overwritten; others are left alone. Throws Error naming the file that cannot be written.
void generate_shapes(const std::filesystem::path& folder, const ShapesConfig& config);

}  // namespace sextant::data
