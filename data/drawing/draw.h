// SPDX-License-Identifier: Apache-2.0
// Draws detections on a picture.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "data/drawing/canvas.h"
#include "data/image/image.h"

namespace sextant::data {

struct LabelledBox {
  Rect box;  // pixels, corners
  int class_id = 0;
  std::string label;                          // UTF-8; empty: no name
  double score = -1;                          // shown with two digits when >= 0
  std::optional<Color> color = std::nullopt;  // else that of the class
};

struct DrawStyle {
  double line_width = 0;  // pixels; 0: from the size of the image
  double cap_height = 0;  // of the label's text in pixels; 0: from the size of the image
  bool labels = true;
};

// A distinct colour for each class, with hues far apart for neighbouring ids.
Color class_color(int class_id);

// Replaces a style's zeros by the values for an image of this size.
DrawStyle resolve_style(DrawStyle style, int width, int height);

// Frames each box in its class's colour, higher scores on top, and puts the label on a filled tag
// at the corner of the box where it covers other tags least. Boxes are clipped at the border, tags
// are moved inside. A box that is not finite, or entirely outside, is left out.
void draw_detections(Image& image, std::span<const LabelledBox> boxes, const DrawStyle& style = {});

}  // namespace sextant::data
