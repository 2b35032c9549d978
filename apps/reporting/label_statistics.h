// SPDX-License-Identifier: Apache-2.0
// What the labels of a split are like: classes, sizes, places, boxes of an image.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/dataset/dataset.h"

namespace sextant::apps {

struct LabelStatistics {
  static constexpr int kCells = 32;  // a side of the tables of counts
  struct Class {
    std::string name;
    int64_t boxes = 0, images = 0;  // without crowds; images with at least one
    double median_side = 0;         // square root of the area, in pixels of the image
  };
  struct Bin {
    std::string name;  // "3", "10-19"
    int64_t images = 0;
  };
  int64_t images = 0, empty_images = 0, boxes = 0, crowds = 0;
  int64_t small = 0, medium = 0, large = 0;  // COCO's: below 32^2, to 96^2, above; pixels
  int64_t most_boxes = 0;                    // of an image
  int smallest_width = 0, smallest_height = 0, largest_width = 0, largest_height = 0;
  std::vector<Class> classes;
  std::vector<Bin> per_image;
  std::vector<double> centres;  // kCells x kCells counts, rows from the top
  std::vector<double> sizes;    // of width and height, rows by rising height, up to `largest`
  double largest = 1;           // share of the image that 99% of widths and heights are below
};

LabelStatistics label_statistics(const data::Dataset& dataset);

}  // namespace sextant::apps
