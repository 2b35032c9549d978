// The sizes of many images, read side by side, and remembered from one start to the next.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "data/dataset/label_report.h"
#include "data/image/image.h"

namespace sextant::data {

// The size of each image, or nothing for one whose header is broken, which is reported; in order.
//
// From some hundred images on, sizes are kept in a file under $SEXTANT_CACHE, else
// $XDG_CACHE_HOME/sextant, else ~/.cache/sextant (where none can be made, nowhere). A size is taken
// from there only if the file still has the inode, size, modification and change time it had when
// the size was read, so that it is never stale; one that was changed within two seconds before is
// not kept, since another change might leave the same times. A line on stderr says how many were.
// `key` names the list among others: the data set's description and split.
std::vector<std::optional<ImageSize>> read_image_sizes(const std::vector<std::string>& images,
                                                       const std::string& key, LabelReport& report);

}  // namespace sextant::data
