// SPDX-License-Identifier: Apache-2.0
#include "data/dataset/coco_segmentation.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

namespace sextant::data {
namespace {

using Corners = std::array<double, 4>;

std::optional<Corners> polygons_box(const std::vector<std::vector<double>>& polygons) {
  std::optional<Corners> box;
  for (const auto& polygon : polygons) {
    if (polygon.size() < 6 || polygon.size() % 2 != 0) return std::nullopt;
    for (size_t i = 0; i < polygon.size(); i += 2) {
      const double x = polygon[i], y = polygon[i + 1];
      if (!box) box = {x, y, x, y};
      *box = {std::min((*box)[0], x), std::min((*box)[1], y), std::max((*box)[2], x),
              std::max((*box)[3], y)};
    }
  }
  return box;
}

// Numbers with five bits per character, lowest first, and a continuation flag; from the third on,
// each is the difference from the last but one. Empty for malformed text.
std::vector<int64_t> unpack_counts(const std::string& text) {
  std::vector<int64_t> counts;
  for (size_t at = 0; at < text.size();) {
    int64_t value = 0;
    for (int shift = 0;; shift += 5) {
      if (at == text.size() || shift > 55) return {};
      const int code = text[at++] - 48;
      if (code < 0 || code > 63) return {};
      value |= int64_t{code & 31} << shift;
      if ((code & 32) != 0) continue;
      if ((code & 16) != 0) value -= int64_t{1} << (shift + 5);
      break;
    }
    counts.push_back(counts.size() > 2 ? value + counts[counts.size() - 2] : value);
  }
  return counts;
}

std::optional<Corners> runs_box(const std::vector<int64_t>& counts, int64_t height, int64_t width) {
  std::optional<Corners> box;
  int64_t at = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    if (counts[i] < 0 || counts[i] > height * width - at) return std::nullopt;
    const int64_t begin = at;
    at += counts[i];
    if (i % 2 == 0 || counts[i] == 0) continue;
    const int64_t left = begin / height, right = (at - 1) / height + 1;
    const bool one_column = right == left + 1;
    const int64_t top = one_column ? begin % height : 0;
    const int64_t bottom = one_column ? (at - 1) % height + 1 : height;
    const Corners run{static_cast<double>(left), static_cast<double>(top),
                      static_cast<double>(right), static_cast<double>(bottom)};
    if (!box) box = run;
    *box = {std::min((*box)[0], run[0]), std::min((*box)[1], run[1]), std::max((*box)[2], run[2]),
            std::max((*box)[3], run[3])};
  }
  return box;
}

}  // namespace

std::optional<Corners> segmentation_box(const Json& segmentation) {
  std::vector<std::vector<double>> polygons;
  if (read_value(segmentation, polygons)) return polygons_box(polygons);
  if (!segmentation.is_object() || !segmentation.contains("size") ||
      !segmentation.contains("counts"))
    return std::nullopt;
  constexpr int64_t kLargestSide = 1 << 20;
  std::vector<int64_t> size, counts;
  std::string text;
  if (!read_value(segmentation.at("size"), size) || size.size() != 2 || size[0] <= 0 ||
      size[1] <= 0 || size[0] > kLargestSide || size[1] > kLargestSide)
    return std::nullopt;
  if (read_value(segmentation.at("counts"), text))
    counts = unpack_counts(text);
  else if (!read_value(segmentation.at("counts"), counts))
    return std::nullopt;
  return runs_box(counts, size[0], size[1]);
}

}  // namespace sextant::data
