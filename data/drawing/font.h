// SPDX-License-Identifier: Apache-2.0
// Text in a built-in single-stroke font for printable ASCII, drawn at any size.
//
// Glyphs are lines and quadratic B-splines on a grid in which capitals are 8 units high, so text
// stays sharp when pictures get large, and small text keeps an even stroke.
#pragma once

#include <string_view>

#include "data/drawing/canvas.h"

namespace sextant::data {

struct TextStyle {
  double cap_height = 9;  // pixels from baseline to the top of a capital
  double weight = 1;      // of the stroke; 1.4 is bold
  Color color;
  double alpha = 1;
};

// Pixels from the first glyph's left edge to the last one's right edge. Text is UTF-8; each code
// point outside printable ASCII, and each byte of invalid UTF-8, is drawn as '?'.
double text_width(std::string_view text, double cap_height);

// `left`, `baseline`: where the first glyph starts. Descenders reach 3/8 of cap_height below.
void draw_text(Image& image, double left, double baseline, std::string_view text,
               const TextStyle& style);

}  // namespace sextant::data
