// SPDX-License-Identifier: Apache-2.0
// Reads encoded images from a stream of concatenated images.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

namespace sextant::apps {

// Reads the next JPEG or PNG, up to its end marker. False at the end of the stream. Throws Error,
// calling the stream `name`, for other data, a truncated image, and an image larger than 1 GiB.
bool read_encoded_image(std::FILE* stream, std::vector<uint8_t>& bytes, const std::string& name);

}  // namespace sextant::apps
