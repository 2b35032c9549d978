// SPDX-License-Identifier: Apache-2.0
// Writing data sets: splits of samples as a folder that open_dataset() reads.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/enum_names.h"
#include "data/dataset/dataset.h"

namespace sextant::data {

enum class DatasetForm { kYolo, kCoco, kVoc };
constexpr auto enum_names(DatasetForm) {
  return make_enum_names<DatasetForm>(
      "form",
      {{DatasetForm::kYolo, "yolo"}, {DatasetForm::kCoco, "coco"}, {DatasetForm::kVoc, "voc"}});
}

struct SplitToWrite {
  std::string name;
  std::vector<const Sample*> samples;
};

struct WrittenDataset {
  int64_t images = 0, boxes = 0;
  int64_t crowds = 0;  // left out, since YOLO text cannot say that a box is one
};

// Writes classes.json, images/<split>/ and labels/<split>/*.txt, annotations/instances_<split>.json or
// annotations/<split>/*.xml into a new folder, all of it or nothing. Images are hard links to the
// samples' files, or copies where that cannot be; two of the same name in a split are told apart by a
// number. YOLO text and COCO hold what the labels hold; VOC has whole pixels. Throws Error if the
// folder exists and is not empty, or cannot be written.
WrittenDataset write_dataset(const std::filesystem::path& folder, DatasetForm form,
                             const std::vector<std::string>& names,
                             const std::vector<SplitToWrite>& splits);

// Deals samples into splits of these shares, which are scaled to add up to 1, by a hash of seed and
// file name: the same for the same images, in whatever order they come. The numbers of images are
// the shares', rounded. Throws Error for a share that is negative or for none above 0.
struct Share {
  std::string split;
  double part = 0;
};
std::vector<SplitToWrite> deal(std::vector<const Sample*> samples, const std::vector<Share>& shares,
                               uint64_t seed);

}  // namespace sextant::data
