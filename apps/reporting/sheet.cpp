// SPDX-License-Identifier: Apache-2.0
#include "apps/reporting/sheet.h"

#include <algorithm>

#include "data/drawing/font.h"
#include "data/image/letterbox.h"

namespace sextant::apps {
namespace {

constexpr int kSide = 400, kGap = 12, kCaption = 22;

void put(data::Image& onto, const data::Image& picture, int left, int top) {
  for (int y = 0; y < picture.height; ++y)
    std::copy_n(picture.row(y), picture.pitch(), onto.row(top + y) + int64_t{3} * left);
}

// The height that the tallest image of a row takes.
int height_of(const data::Image& image) {
  const double scale =
      std::min(kSide / static_cast<double>(image.width), kSide / static_cast<double>(image.height));
  return std::clamp(static_cast<int>(std::ceil(image.height * scale)), 1, kSide);
}

data::Image scaled(const Tile& tile, int height) {
  const data::LetterboxOptions canvas{.width = kSide, .height = height, .pad = 255};
  const auto geometry = data::letterbox_geometry(tile.image.width, tile.image.height, canvas);
  data::Image out = data::make_image(kSide, height);
  data::letterbox_into(tile.image, geometry, canvas.pad, out.pixels.data());
  std::vector<data::LabelledBox> boxes = tile.boxes;
  for (auto& b : boxes) {
    const auto v = [](double x) { return static_cast<float>(x); };
    const data::Box at = geometry.to_canvas({v(b.box.x0), v(b.box.y0), v(b.box.x1), v(b.box.y1)});
    b.box = {at[0], at[1], at[2], at[3]};
  }
  data::draw_detections(out, boxes, {.line_width = 2, .cap_height = 7});
  return out;
}

}  // namespace

data::Image draw_sheet(const std::vector<Tile>& tiles, int columns) {
  if (tiles.empty()) return {};
  const auto per_row = static_cast<size_t>(columns);
  std::vector<int> heights;
  int height = kGap;
  for (size_t i = 0; i < tiles.size(); i += per_row) {
    int row = 1;
    for (size_t k = i; k < std::min(tiles.size(), i + per_row); ++k)
      row = std::max(row, height_of(tiles[k].image));
    heights.push_back(row);
    height += row + kCaption + kGap;
  }
  const int used = static_cast<int>(std::min(tiles.size(), per_row));
  data::Image sheet = data::make_image(used * (kSide + kGap) + kGap, height, 255);
  int top = kGap;
  for (size_t i = 0; i < tiles.size(); ++i) {
    const size_t row = i / per_row;
    const int left = kGap + static_cast<int>(i % per_row) * (kSide + kGap);
    const double cap = 8;
    std::string caption = tiles[i].caption;
    while (data::text_width(caption, cap) > kSide && caption.size() > 4)
      caption = caption.substr(0, caption.size() - 4) + "...";
    data::draw_text(sheet, left, top + 14, caption, {cap, 1.1, {35, 38, 45}, 1});
    put(sheet, scaled(tiles[i], heights[row]), left, top + kCaption);
    if (i % per_row == per_row - 1) top += heights[row] + kCaption + kGap;
  }
  return sheet;
}

data::Image side_by_side(const std::vector<data::Image>& pictures, int columns) {
  const int rows = (static_cast<int>(pictures.size()) + columns - 1) / columns;
  data::Image out =
      data::make_image(pictures.at(0).width * columns, pictures.at(0).height * rows, 255);
  for (size_t i = 0; i < pictures.size(); ++i)
    put(out, pictures[i], static_cast<int>(i) % columns * pictures[0].width,
        static_cast<int>(i) / columns * pictures[0].height);
  return out;
}

}  // namespace sextant::apps
