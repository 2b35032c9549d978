// SPDX-License-Identifier: Apache-2.0
// Reads and writes whole files. A written file appears under its name complete or not at all.
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

// Whether there is a file or folder, a folder, or a regular file of this name. A name that the
// system refuses, such as one that is too long, is not there.
bool file_exists(const std::filesystem::path& path);
bool is_folder(const std::filesystem::path& path);
bool is_plain_file(const std::filesystem::path& path);

// Where a symbolic link leads in the end, whether or not anything exists there; any other path
// unchanged. Throws Error naming a link that leads to itself.
std::filesystem::path link_target(std::filesystem::path path);

// Writes to a temporary name in the same folder, flushes to disk, renames. Creates the folder if it
// is missing. A link stays, and what it leads to is written; a device or pipe is written to, not
// replaced. A signal waits until it is done (core/interrupt.h). Throws Error naming the file; the
// old file is then unchanged.
void write_atomically(const std::filesystem::path& path,
                      std::span<const std::span<const std::byte>> parts);
void write_atomically(const std::filesystem::path& path, std::string_view text);

// The same without waiting for the disk, which takes milliseconds: for files of which there are many
// and which can be made again. After a power failure, such a file may be there without its contents.
// Whether a file would be in this very folder, by whatever names.
bool lies_in(const std::filesystem::path& file, const std::filesystem::path& folder);

void write_unflushed(const std::filesystem::path& path, std::span<const std::byte> bytes);

// Removes files in the folder that write_atomically() began in a process that is no longer alive.
void remove_leftovers(const std::filesystem::path& folder);

}  // namespace sextant
