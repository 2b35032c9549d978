// SPDX-License-Identifier: Apache-2.0
#include "data/drawing/font.h"

#include <array>
#include <cmath>
#include <string>
#include <vector>

namespace sextant::data {
namespace {

constexpr int kFirst = 33;  // '!'; the space is handled separately
constexpr int kLast = 126;  // '~'
constexpr double kCapUnits = 8;
constexpr double kGap = 2.4;    // units between glyphs
constexpr double kSpace = 3.2;  // width of ' '

// Strokes separated by spaces; a stroke is a list of points, two characters each: x and y from the
// glyph's top left, 0-9, 'a' = 10, 'b' = 11. Capitals stand on y = 8, small letters start at y = 3,
// descenders end at 11. A stroke after '~' is a quadratic B-spline over its points; where the last
// point is the first one, a closed one.
constexpr std::array<const char*, kLast - kFirst + 1> kGlyphs{
    /* ! */ "0005 0808",
    /* " */ "0002 2022",
    /* # */ "2018 5048 0363 0565",
    /* $ */ "~4240000444480806 2028",
    /* % */ "0860 ~0020220200 ~4666684846",
    /* & */ "~121040420508485558 1258",
    /* ' */ "0002",
    /* ( */ "~20020628",
    /* ) */ "~00222608",
    /* * */ "2125 0244 0442",
    /* + */ "2327 0545",
    /* , */ "170a",
    /* - */ "0535",
    /* . */ "0808",
    /* / */ "0840",
    /* 0 */ "~0040480800",
    /* 1 */ "022028 0848",
    /* 2 */ "~0200404408 0848",
    /* 3 */ "~0100404424 ~2444480807",
    /* 4 */ "38300646",
    /* 5 */ "400004 ~0443480807",
    /* 6 */ "~41400005 ~0343480803",
    /* 7 */ "004018",
    /* 8 */ "~0040440400 ~0444480804",
    /* 9 */ "~0040450500 ~43480807",
    /* : */ "0404 0808",
    /* ; */ "1414 170a",
    /* < */ "420548",
    /* = */ "0444 0646",
    /* > */ "024508",
    /* ? */ "~0200404326 2828",
    /* @ */ "~4346666000085858 ~2242462622",
    /* A */ "083068 1555",
    /* B */ "080030 ~30505434 0434 ~34545838 3808",
    /* C */ "~525000085856",
    /* D */ "080020 ~20505828 2808",
    /* E */ "50000858 0444",
    /* F */ "500008 0444",
    /* G */ "~525000085855 5535",
    /* H */ "0008 5058 0454",
    /* I */ "0020 1018 0828",
    /* J */ "4045 ~45480806",
    /* K */ "0008 5005 2358",
    /* L */ "000848",
    /* M */ "0800356068",
    /* N */ "08005850",
    /* O */ "~0050580800",
    /* P */ "080030 ~30505434 3404",
    /* Q */ "~0050580800 3659",
    /* R */ "080030 ~30505434 3404 2458",
    /* S */ "~5250000454580806",
    /* T */ "0060 3038",
    /* U */ "0005 ~05085855 5550",
    /* V */ "003860",
    /* W */ "0028426880",
    /* X */ "0058 5008",
    /* Y */ "003460 3438",
    /* Z */ "00500858",
    /* [ */ "20000828",
    /* \ */ "0048",
    /* ] */ "00202808",
    /* ^ */ "022042",
    /* _ */ "0949",
    /* ` */ "0012",
    /* a */ "~0343480803 4348",
    /* b */ "0008 ~0343480803",
    /* c */ "~444303084847",
    /* d */ "4048 ~0343480803",
    /* e */ "0545 ~454303084847",
    /* f */ "~301013 1318 0333",
    /* g */ "~0343480803 4349 ~494b0b0a",
    /* h */ "0008 ~05034345 4548",
    /* i */ "0308 0101",
    /* j */ "2329 ~292b0b 2121",
    /* k */ "0008 4307 2548",
    /* l */ "0006 ~060828",
    /* m */ "0308 ~05033335 3538 ~35336365 6568",
    /* n */ "0308 ~05034345 4548",
    /* o */ "~0343480803",
    /* p */ "030b ~0343480803",
    /* q */ "434b ~0343480803",
    /* r */ "0308 ~050333",
    /* s */ "~4443030546480807",
    /* t */ "1016 ~161838 0333",
    /* u */ "0306 ~06084846 4348",
    /* v */ "032843",
    /* w */ "0318345863",
    /* x */ "0348 4308",
    /* y */ "0328 431b",
    /* z */ "03430848",
    /* { */ "~30101404 ~04141838",
    /* | */ "000a",
    /* } */ "~00202434 ~34242808",
    /* ~ */ "~060424264644",
};

struct Glyph {
  std::vector<std::vector<Point>> strokes;  // in units
  double width = 0;
};

int digit(char c) { return c <= '9' ? c - '0' : c - 'a' + 10; }

Point middle(const Point& a, const Point& b) { return {(a.x + b.x) / 2, (a.y + b.y) / 2}; }

void append_curve(std::vector<Point>& out, Point a, Point control, Point b) {
  constexpr int kSteps = 6;
  for (int i = 1; i <= kSteps; ++i) {
    const double t = static_cast<double>(i) / kSteps, s = 1 - t;
    out.push_back({s * s * a.x + 2 * s * t * control.x + t * t * b.x,
                   s * s * a.y + 2 * s * t * control.y + t * t * b.y});
  }
}

// Uniform quadratic B-spline: each inner point is the control point of a parabola between the
// middles of its two sides.
std::vector<Point> smooth(const std::vector<Point>& p) {
  const bool closed = p.front().x == p.back().x && p.front().y == p.back().y;
  std::vector<Point> out;
  const size_t n = p.size();
  if (closed) {
    out.push_back(middle(p[0], p[1]));
    for (size_t i = 1; i < n; ++i) {
      const Point& next = p[i + 1 < n ? i + 1 : 1];
      append_curve(out, out.back(), p[i], middle(p[i], next));
    }
    return out;
  }
  out.push_back(p[0]);
  for (size_t i = 1; i + 1 < n; ++i)
    append_curve(out, out.back(), p[i], i + 2 < n ? middle(p[i], p[i + 1]) : p[n - 1]);
  return out;
}

Glyph parse(const char* text) {
  Glyph glyph;
  std::vector<Point> points;
  bool curved = false;
  const auto flush = [&] {
    if (points.empty()) return;
    for (const Point& p : points) glyph.width = std::max(glyph.width, p.x);
    glyph.strokes.push_back(curved ? smooth(points) : points);
    points.clear();
    curved = false;
  };
  for (const char* c = text; *c;) {
    if (*c == ' ') {
      flush();
      ++c;
    } else if (*c == '~') {
      curved = true;
      ++c;
    } else {
      points.push_back({static_cast<double>(digit(c[0])), static_cast<double>(digit(c[1]))});
      c += 2;
    }
  }
  flush();
  return glyph;
}

const Glyph& glyph_of(char c) {
  static const std::vector<Glyph> glyphs = [] {
    std::vector<Glyph> all;
    for (const char* text : kGlyphs) all.push_back(parse(text));
    return all;
  }();
  return glyphs[static_cast<size_t>(c - kFirst)];
}

// One character per code point: the character if it is printable ASCII, else '?'.
std::string to_ascii(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const auto c = static_cast<unsigned char>(text[i]);
    const size_t length = c < 0x80                ? 1
                          : c >= 0xC2 && c < 0xE0 ? 2
                          : c >= 0xE0 && c < 0xF0 ? 3
                          : c >= 0xF0 && c < 0xF5 ? 4
                                                  : 1;
    size_t k = 1;
    while (k < length && i + k < text.size() &&
           (static_cast<unsigned char>(text[i + k]) & 0xC0) == 0x80)
      ++k;
    out += c >= 0x20 && c <= kLast ? static_cast<char>(c) : '?';
    i += k == length ? length : 1;
  }
  return out;
}

// Small text is aligned to whole pixels, so that stems of one pixel stay sharp.
double snapped(double v, double unit) { return unit < 2.5 ? std::round(v) : v; }

double advance_of(char c, double unit) {
  return snapped((c == ' ' ? kSpace : glyph_of(c).width + kGap) * unit, unit);
}

}  // namespace

double text_width(std::string_view text, double cap_height) {
  const double unit = cap_height / kCapUnits;
  double width = 0, last = 0;
  for (const char c : to_ascii(text)) {
    last = width + (c == ' ' ? kSpace : glyph_of(c).width) * unit;
    width += advance_of(c, unit);
  }
  return last;
}

void draw_text(Image& image, double left, double baseline, std::string_view text,
               const TextStyle& style) {
  const double unit = style.cap_height / kCapUnits;
  const double thickness = std::max(1.0, unit * 1.05) * style.weight;
  const double half_pixel = unit < 2.5 ? 0.5 : 0;
  double x = snapped(left, unit) + half_pixel;
  const double y = snapped(baseline, unit) - half_pixel;
  std::vector<Point> line;
  for (const char c : to_ascii(text)) {
    if (c != ' ')
      for (const auto& points : glyph_of(c).strokes) {
        line.clear();
        for (const Point& p : points)
          line.push_back({x + p.x * unit, y + (p.y - kCapUnits) * unit});
        stroke(image, line, thickness, style.color, style.alpha);
      }
    x += advance_of(c, unit);
  }
}

}  // namespace sextant::data
