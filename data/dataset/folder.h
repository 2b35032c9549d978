// The files of a folder and all folders in it.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace sextant::data {

// Files whose name `wanted` accepts, sorted by path, folder by folder. Links are followed, but each
// folder is entered once, so that a link to a folder above ends nothing and repeats nothing. What is
// hidden (a name that starts with a dot) is skipped. Throws std::filesystem::filesystem_error.
std::vector<std::string> files_under(
    const std::filesystem::path& folder,
    const std::function<bool(const std::filesystem::path&)>& wanted);

}  // namespace sextant::data
