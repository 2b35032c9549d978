// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "core/json.h"

namespace sextant::bench {

struct LoaderOptions {
  std::string data, split = "train";
  int64_t batch = 32, images = 512;
  int image_size = 640, threads = 1;
};

// Images per second that the loader prepares, nothing cached: letterboxed, and augmented with and
// without mosaic.
Json loader(const LoaderOptions& o);

}  // namespace sextant::bench
