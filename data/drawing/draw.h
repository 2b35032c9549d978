// Detections drawn on a picture.
#pragma once

#include <span>
#include <string>

#include "data/drawing/canvas.h"
#include "data/image/image.h"

namespace sextant::data {

struct LabelledBox {
  Rect box;  // pixels, corners
  int class_id = 0;
  std::string label;  // UTF-8; empty: no name
  double score = -1;  // shown with two digits when >= 0
};

struct DrawStyle {
  double line_width = 0;  // pixels; 0: from the size of the image
  double cap_height = 0;  // of the label's text in pixels; 0: from the size of the image
  bool labels = true;
};

// A colour of its own for each class: hues far apart for neighbouring ids.
Color class_color(int class_id);

// What a style's zeros stand for on an image of this size.
DrawStyle resolve_style(DrawStyle style, int width, int height);

// Frames each box in its class's colour, better scores over worse ones, and puts the label on a
// filled tag at a corner of the box where it covers other tags least. Boxes and tags are clipped at
// (tags: moved inside) the border. A box that is not finite, or wholly outside, is left out.
void draw_detections(Image& image, std::span<const LabelledBox> boxes, const DrawStyle& style = {});

}  // namespace sextant::data
