// Files as a whole. What is written appears under its name at once or not at all.
#pragma once

#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sextant {

// Throws Error naming the file. Text comes without a byte order mark.
std::string read_text(const std::filesystem::path& path);
std::vector<uint8_t> read_bytes(const std::filesystem::path& path);

// Where a symbolic link leads in the end, whether anything is there or not; any other path as it
// is. Throws Error naming a link that leads to itself.
std::filesystem::path link_target(std::filesystem::path path);

// Writes to a temporary name in the same folder, flushes to disk, renames. Makes the folder when
// missing. A link stays, and what it leads to is written; a device or pipe is written to, not
// replaced. Throws Error naming the file; the old file then stays as it was.
void write_atomically(const std::filesystem::path& path,
                      std::span<const std::span<const std::byte>> parts);
void write_atomically(const std::filesystem::path& path, std::string_view text);

}  // namespace sextant
