// SPDX-License-Identifier: Apache-2.0
// The files in a folder and all its subfolders.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace sextant::data {

// Files whose name `wanted` accepts, sorted by path, folder by folder. Links are followed, but each
// folder is entered only once, so that a link to a parent folder causes neither a loop nor
// duplicates. Hidden files and folders (names that start with a dot) are skipped. Throws
// std::filesystem::filesystem_error.
std::vector<std::string> files_under(
    const std::filesystem::path& folder,
    const std::function<bool(const std::filesystem::path&)>& wanted);

}  // namespace sextant::data
