// SPDX-License-Identifier: Apache-2.0
#include "apps/reporting/label_statistics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/median.h"

namespace sextant::apps {
namespace {

size_t cell_of(double share) {
  constexpr int kCells = LabelStatistics::kCells;
  return static_cast<size_t>(std::clamp(static_cast<int>(share * kCells), 0, kCells - 1));
}

// Bins of one up to ten images' worth, else about twenty of a round width.
std::vector<LabelStatistics::Bin> bins_of(const std::vector<int64_t>& counts, int64_t most) {
  int64_t width = 1;
  while (most / width >= 20) width = width < 5 ? 5 : width * 2;
  std::vector<LabelStatistics::Bin> bins;
  for (int64_t low = 0; low <= most; low += width)
    bins.push_back(
        {width == 1 ? std::to_string(low) : fmt::format("{}-{}", low, low + width - 1), 0});
  for (const int64_t n : counts) ++bins[static_cast<size_t>(n / width)].images;
  return bins;
}

}  // namespace

LabelStatistics label_statistics(const data::Dataset& dataset) {
  constexpr size_t kCells = LabelStatistics::kCells;
  LabelStatistics s;
  s.images = dataset.size();
  s.centres.resize(kCells * kCells);
  s.sizes.resize(kCells * kCells);
  std::vector<std::vector<double>> sides(dataset.names.size());
  for (const auto& name : dataset.names) s.classes.push_back({name, 0, 0, 0});
  std::vector<double> shares;
  std::vector<int64_t> counts;
  for (const data::Sample& sample : dataset.samples) {
    std::vector<bool> seen(dataset.names.size());
    int64_t boxes = 0;
    for (const data::Label& l : sample.labels) {
      if (l.crowd) {
        ++s.crowds;
        continue;
      }
      ++boxes;
      const auto c = static_cast<size_t>(l.category);
      ++s.classes[c].boxes;
      s.classes[c].images += !seen[c];
      seen[c] = true;
      const double area = double{l.w} * sample.width * l.h * sample.height;
      ++(area < 32 * 32 ? s.small : area <= 96 * 96 ? s.medium : s.large);
      sides[c].push_back(std::sqrt(area));
      ++s.centres[cell_of(l.cy) * kCells + cell_of(l.cx)];
      shares.push_back(std::max(l.w, l.h));
    }
    s.boxes += boxes;
    s.empty_images += boxes == 0;
    s.most_boxes = std::max(s.most_boxes, boxes);
    counts.push_back(boxes);
    const bool first = s.largest_width == 0;
    s.smallest_width = first ? sample.width : std::min(s.smallest_width, sample.width);
    s.smallest_height = first ? sample.height : std::min(s.smallest_height, sample.height);
    s.largest_width = std::max(s.largest_width, sample.width);
    s.largest_height = std::max(s.largest_height, sample.height);
  }
  for (size_t c = 0; c < sides.size(); ++c)
    if (!sides[c].empty()) s.classes[c].median_side = median(sides[c]);
  if (!shares.empty()) {
    std::ranges::sort(shares);
    const double share = shares[static_cast<size_t>(0.99 * static_cast<double>(shares.size() - 1))];
    s.largest = std::clamp(std::ceil(share * 20) / 20, 0.05, 1.0);
  }
  for (const data::Sample& sample : dataset.samples)
    for (const data::Label& l : sample.labels)
      if (!l.crowd && l.w <= s.largest && l.h <= s.largest)
        ++s.sizes[cell_of(l.h / s.largest) * kCells + cell_of(l.w / s.largest)];
  s.per_image = bins_of(counts, s.most_boxes);
  return s;
}

}  // namespace sextant::apps
