// SPDX-License-Identifier: Apache-2.0
// For files of which there are many and which can be made again, such as annotated pictures.
#pragma once

#include <filesystem>
#include <span>

namespace sextant {

// As write_atomically() (core/file.h), without waiting for the disk, which takes milliseconds: after
// a power failure, such a file may be there without its contents.
void write_unflushed(const std::filesystem::path& path, std::span<const std::byte> bytes);

}  // namespace sextant
