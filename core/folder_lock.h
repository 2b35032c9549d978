// SPDX-License-Identifier: Apache-2.0
// One process at a time in a folder.
#pragma once

#include <filesystem>

namespace sextant {

// Held while the object lives, and gone with the process, however that ends: a lock on the file
// `lock` in the folder, which holds the process's number. Where the file system has no locks, nothing
// is held.
class FolderLock {
 public:
  // Creates the folder if it is missing (and removes it in the end where it is still empty), and
  // removes what killed processes have left there of files
  // that they were writing. Throws Error "<folder>: is in use by process <number>; ..." when another
  // FolderLock holds it.
  explicit FolderLock(const std::filesystem::path& folder);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  std::filesystem::path folder_, file_;
  bool created_ = false;
  int fd_ = -1;
};

}  // namespace sextant
