// SPDX-License-Identifier: Apache-2.0
#include "data/dataset/folder.h"

#include <algorithm>
#include <set>
#include <string_view>

namespace sextant::data {
namespace {

namespace fs = std::filesystem;

// Compares paths name by name, like fs::path, but without splitting them.
bool path_less(const std::string& a, const std::string& b) {
  const auto rank = [](char c) { return c == '/' ? 0 : static_cast<unsigned char>(c) + 1; };
  return std::ranges::lexicographical_compare(a, b, {}, rank, rank);
}

class Walk {
 public:
  explicit Walk(const std::function<bool(const fs::path&)>& wanted) : wanted_(wanted) {}

  // Visits real folders before links, so that a link into the same tree repeats nothing.
  std::vector<std::string> files(const fs::path& folder) {
    enter(folder);
    while (!links_.empty()) {
      std::set<fs::path> links;
      links.swap(links_);
      for (const fs::path& link : links) enter(link);
    }
    std::ranges::sort(files_, path_less);
    return std::move(files_);
  }

 private:
  void enter(const fs::path& folder) {
    if (!entered_.insert(fs::canonical(folder)).second) return;
    for (const auto& entry : fs::directory_iterator(folder)) {
      const fs::path& path = entry.path();
      if (path.filename().native().starts_with('.')) continue;
      if (!entry.is_directory()) {
        if (wanted_(path)) files_.push_back(path.string());
      } else if (entry.is_symlink()) {
        links_.insert(path);
      } else {
        enter(path);
      }
    }
  }

  const std::function<bool(const fs::path&)>& wanted_;
  std::set<fs::path> entered_;
  std::set<fs::path> links_;
  std::vector<std::string> files_;
};

}  // namespace

std::vector<std::string> files_under(const fs::path& folder,
                                     const std::function<bool(const fs::path&)>& wanted) {
  return Walk(wanted).files(folder);
}

}  // namespace sextant::data
