// SPDX-License-Identifier: Apache-2.0
// Pixels as a program holds them -> data::Image.
#pragma once

#include "data/image/image.h"
#include "deploy/api/sextant/sextant.h"

namespace sextant::deploy {

// A copy as RGB: the alpha channel is dropped, grey is written three times. Throws Error, calling the
// image `name`, for a null pointer, sides out of 1..kMaxImageSide, an unknown format or a stride
// shorter than a row.
data::Image rgb_image(const sextant_image& image, std::string_view name);

}  // namespace sextant::deploy
