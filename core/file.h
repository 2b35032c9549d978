// Reads and writes whole files. A written file appears under its name complete or not at all.
#pragma once

#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sextant {

// Throws Error naming the file.
std::string read_text(const std::filesystem::path& path);
std::vector<uint8_t> read_bytes(const std::filesystem::path& path);

// Writes to a temporary name in the same folder, flushes to disk, renames. Creates the folder if it
// is missing. Throws Error naming the file; the old file is then unchanged.
void write_atomically(const std::filesystem::path& path,
                      std::span<const std::span<const std::byte>> parts);
void write_atomically(const std::filesystem::path& path, std::string_view text);

}  // namespace sextant
