// SPDX-License-Identifier: Apache-2.0
// Event files, as TensorBoard reads them: TFRecords, each an `Event` message with scalars.
//
// A TFRecord is the length (u64), its masked CRC, the bytes, their masked CRC, all little-endian.
// The CRC is CRC-32C (Castagnoli, RFC 3720), masked by a rotation to the right by 15 and the
// addition of 0xa282ead8. Of the messages (tensorflow/core/util/event.proto, summary.proto) these
// fields are written:
//   Event    1 double wall_time, 2 int64 step, 3 string file_version or 5 Summary summary
//   Summary  1 repeated Value: 1 string tag, 2 float simple_value
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sextant::apps {

uint32_t crc32c(std::string_view bytes);
uint32_t masked_crc32c(std::string_view bytes);

std::string tf_record(std::string_view bytes);

// The first record of a file. Seconds since 1970.
std::string version_event(double wall_time);
std::string scalar_event(double wall_time, int64_t step,
                         const std::vector<std::pair<std::string, double>>& scalars);

}  // namespace sextant::apps
