// SPDX-License-Identifier: Apache-2.0
// A synthetic detection dataset: shapes of six classes on textured backgrounds, among distractors.
// For demonstrations and tests without photographs.
//
// The dataset is not trivial, but a small network learns it in a few minutes: size, colour, fill,
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
  // A shape with a smaller visible fraction than this gets no label.
  double min_visible = 0.5;
};

// circle, square, triangle, star, cross, ring; index = class id.
const std::vector<std::string>& shape_names();

// Corners in pixels. The box surrounds the whole drawn shape, even where it is covered, clipped at
// the image border.
struct ShapeBox {
  int class_id = 0;
  double x0 = 0, y0 = 0, x1 = 0, y1 = 0;
};

struct ShapesSample {
  Image image;
  std::vector<ShapeBox> boxes;  // at least one
};

// Picture number `index` of a split ("train", "val" or any name); depends only on the config's
// drawing fields, the seed, the split's name and the index.
// Throws Error for a config out of range (sides < 32, sizes outside (0, 1], ...).
ShapesSample draw_shapes(const ShapesConfig& config, const std::string& split, int64_t index);

// Writes folder/images/<split>/NNNNNN.png, folder/labels/<split>/NNNNNN.txt (YOLO text: class cx cy
// w h, relative) and folder/classes.json, each file atomically, in parallel. Existing files of
// these names are overwritten; others are left alone. Throws Error naming the file that cannot be
// written.
void generate_shapes(const std::filesystem::path& folder, const ShapesConfig& config);

}  // namespace sextant::data
