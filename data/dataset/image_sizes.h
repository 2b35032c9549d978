// SPDX-License-Identifier: Apache-2.0
// The sizes of many images, read in parallel and cached between runs.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "data/dataset/label_report.h"
#include "data/image/image.h"

namespace sextant::data {

// The size of each image, in order; empty for an image with a broken header, which is reported.
//
// For a few hundred images and more, sizes are cached in a file under $SEXTANT_CACHE, else
// $XDG_CACHE_HOME/sextant, else ~/.cache/sextant (if none can be created, there is no cache). A
// cached size is used only if the file still has the same inode, size, modification and change
// time, so it is never stale; a file changed within the last two seconds is not cached, since
// another change might leave the same times. A line on stderr reports how many sizes came from the
// cache. `key` identifies the list: the dataset's description and split.
std::vector<std::optional<ImageSize>> read_image_sizes(const std::vector<std::string>& images,
                                                       const std::string& key, LabelReport& report);

}  // namespace sextant::data
