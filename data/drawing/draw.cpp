// SPDX-License-Identifier: Apache-2.0
#include "data/drawing/draw.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>
#include <vector>

#include "data/drawing/font.h"

namespace sextant::data {
namespace {

struct Tag {
  Rect rect;
  std::string text;
  Color color;
};

double overlap(const Rect& a, const Rect& b) {
  return std::max(0.0, std::min(a.x1, b.x1) - std::max(a.x0, b.x0)) *
         std::max(0.0, std::min(a.y1, b.y1) - std::max(a.y0, b.y0));
}

std::string text_of(const LabelledBox& b) {
  if (b.score < 0) return b.label;
  return fmt::format("{}{}{:.2f}", b.label, b.label.empty() ? "" : " ", b.score);
}

Color color_of(const LabelledBox& b) { return b.color.value_or(class_color(b.class_id)); }

// Rounded to whole pixels for sharp frames; empty if there is nothing to draw.
bool visible_rect(const LabelledBox& b, const Image& image, Rect& out) {
  const Rect& r = b.box;
  for (const double v : {r.x0, r.y0, r.x1, r.y1})
    if (!std::isfinite(v)) return false;
  if (r.x1 <= 0 || r.y1 <= 0 || r.x0 >= image.width || r.y0 >= image.height || r.x1 < r.x0 ||
      r.y1 < r.y0)
    return false;
  out = {std::round(std::max(r.x0, 0.0)), std::round(std::max(r.y0, 0.0)),
         std::round(std::min(r.x1, static_cast<double>(image.width))),
         std::round(std::min(r.y1, static_cast<double>(image.height)))};
  // A box thinner than a pixel is still visible.
  out.x0 = std::min(out.x0, image.width - 1.0);
  out.y0 = std::min(out.y0, image.height - 1.0);
  out.x1 = std::max(out.x1, out.x0 + 1);
  out.y1 = std::max(out.y1, out.y0 + 1);
  return true;
}

// The candidate position at the box where a tag of this size overlaps other tags least; the first
// of equal ones.
Rect place_tag(const Rect& box, double width, double height, const Image& image,
               const std::vector<Tag>& placed) {
  const double below = box.y1, above = box.y0 - height;
  const double inside_top = box.y0, inside_bottom = box.y1 - height;
  const double left = box.x0, right = box.x1 - width;
  const Point corners[] = {{left, above},         {left, inside_top},    {left, below},
                           {left, inside_bottom}, {right, above},        {right, inside_top},
                           {right, below},        {right, inside_bottom}};
  Rect best;
  double best_cost = 0;
  bool first = true;
  for (const Point& p : corners) {
    const double x = std::max(0.0, std::min(p.x, image.width - width));
    const double y = std::max(0.0, std::min(p.y, image.height - height));
    const Rect r{x, y, x + width, y + height};
    // Moving away from the box has a cost too: a tag that does not fit above the box goes inside
    // it.
    double cost = 0.5 * width * std::abs(y - p.y);
    for (const Tag& t : placed) cost += overlap(r, t.rect);
    if (first || cost < best_cost - 1e-9) {
      best = r;
      best_cost = cost;
      first = false;
    }
  }
  return best;
}

}  // namespace

Color class_color(int class_id) {
  constexpr int kDegrees[] = {210, 75, 295, 155, 20, 345, 185, 45, 265, 120};
  constexpr int kChosen = static_cast<int>(std::size(kDegrees));
  if (class_id >= 0 && class_id < kChosen) return from_hsv(kDegrees[class_id] / 360.0, 0.85, 0.95);
  // Steps of the golden ratio stay away from earlier hues; brightness alternates as well.
  const int turn = (class_id / 6 % 3 + 3) % 3;
  return from_hsv(0.5 + 0.6180339887498949 * class_id, turn == 1 ? 0.6 : 0.85,
                  turn == 2 ? 0.72 : 0.95);
}

DrawStyle resolve_style(DrawStyle style, int width, int height) {
  const double side = (width + height) / 2.0;
  if (style.line_width <= 0) style.line_width = std::max(2.0, std::round(side / 280));
  if (style.cap_height <= 0) style.cap_height = std::max(7.0, std::round(side / 70));
  return style;
}

void draw_detections(Image& image, std::span<const LabelledBox> boxes, const DrawStyle& asked) {
  const DrawStyle style = resolve_style(asked, image.width, image.height);
  std::vector<size_t> order(boxes.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return boxes[a].score < boxes[b].score; });
  for (const size_t i : order) {
    Rect r;
    if (!visible_rect(boxes[i], image, r)) continue;
    // A dark hairline on both sides separates the frame from a background of the same colour.
    const double w = style.line_width;
    stroke_rect(image, {r.x0 - 1, r.y0 - 1, r.x1 + 1, r.y1 + 1}, 1, {}, 0.35);
    stroke_rect(image, r, w, color_of(boxes[i]));
    if (r.x1 - r.x0 > 2 * w + 2 && r.y1 - r.y0 > 2 * w + 2)
      stroke_rect(image, {r.x0 + w, r.y0 + w, r.x1 - w, r.y1 - w}, 1, {}, 0.25);
  }
  if (!style.labels) return;
  const double pad = std::round(style.cap_height * 0.5);
  const double height = style.cap_height + 2 * pad - 1;
  std::vector<Tag> tags;
  for (auto i = order.rbegin(); i != order.rend(); ++i) {
    Rect r;
    const std::string text = text_of(boxes[*i]);
    if (text.empty() || !visible_rect(boxes[*i], image, r)) continue;
    const double width = std::ceil(text_width(text, style.cap_height)) + 2 * pad;
    tags.push_back({place_tag(r, width, height, image, tags), text, color_of(boxes[*i])});
  }
  for (auto t = tags.rbegin(); t != tags.rend(); ++t) {
    fill_rounded_rect(image, t->rect, style.cap_height * 0.3, t->color);
    const Color ink = luminance(t->color) > 0.55 ? Color{15, 15, 20} : Color{255, 255, 255};
    draw_text(image, t->rect.x0 + pad, t->rect.y0 + pad + style.cap_height - 0.5, t->text,
              {style.cap_height, 1.2, ink, 1});
  }
}

}  // namespace sextant::data
