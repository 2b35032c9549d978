// Encoded images out of a stream that holds one behind the other.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

namespace sextant::apps {

// Reads the next JPEG or PNG, up to its end marker. False at the end of the stream. Throws Error,
// calling the stream `name`, for other bytes, for an image that is cut off, and for one of more than
// 1 GiB.
bool read_encoded_image(std::FILE* stream, std::vector<uint8_t>& bytes, const std::string& name);

}  // namespace sextant::apps
