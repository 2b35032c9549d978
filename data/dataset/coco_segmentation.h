// SPDX-License-Identifier: Apache-2.0
// The bounding box of a COCO segmentation, for annotations without a box.
#pragma once

#include <array>
#include <optional>

#include "core/json.h"

namespace sextant::data {

// x1 y1 x2 y2 in pixels, of a list of polygons ([[x, y, x, y, ...], ...]) or a run-length mask
// ({"size": [height, width], "counts": [...] or "..."}, column by column, zeros first; the text
// form as in maskApi.c of cocodataset/cocoapi). Empty for anything else, or for an empty mask.
std::optional<std::array<double, 4>> segmentation_box(const Json& segmentation);

}  // namespace sextant::data
