// SPDX-License-Identifier: Apache-2.0
#include "core/folder_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "core/error.h"
#include "core/file.h"
#include "core/text.h"

namespace sextant {
namespace {

namespace fs = std::filesystem;

// The holder removes the file when it is done, so what was opened may have lost its name meanwhile.
bool is_still(int fd, const fs::path& file) {
  struct stat opened {
  }, named{};
  return ::fstat(fd, &opened) == 0 && ::stat(file.c_str(), &named) == 0 &&
         opened.st_dev == named.st_dev && opened.st_ino == named.st_ino;
}

std::string holder(int fd) {
  char text[32] = {};
  const ssize_t n = ::pread(fd, text, sizeof text - 1, 0);
  const std::string number(text, n > 0 ? static_cast<size_t>(n) : 0);
  return number.empty() ? "another process" : "process " + printable(number);
}

}  // namespace

FolderLock::FolderLock(const fs::path& folder) : folder_(folder), file_(folder / "lock") {
  std::error_code ec;
  created_ = fs::create_directories(folder, ec);
  check(!ec, "{}: folder cannot be created ({})", folder.string(), ec.message());
  do {
    if (fd_ >= 0) ::close(fd_);
    fd_ = ::open(file_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    check(fd_ >= 0, "{}: cannot be written ({})", file_.string(), std::strerror(errno));
    if (::flock(fd_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
      const std::string by = holder(fd_);
      ::close(fd_);
      fail("{}: is in use by {}; wait for its end, or choose another folder", folder.string(), by);
    }
  } while (!is_still(fd_, file_));
  const std::string number = std::to_string(::getpid());
  // Where this fails, only the message for others says less.
  [[maybe_unused]] const bool written =
      ::ftruncate(fd_, 0) == 0 && ::pwrite(fd_, number.data(), number.size(), 0) > 0;
  remove_leftovers(folder);
}

FolderLock::~FolderLock() {
  ::unlink(file_.c_str());
  ::close(fd_);
  if (created_) ::rmdir(folder_.c_str());  // fails where there is something in it
}

}  // namespace sextant
