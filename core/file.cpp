// SPDX-License-Identifier: Apache-2.0
#include "core/file.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <system_error>

#include "core/error.h"
#include "core/interrupt.h"

namespace sextant {
namespace {

constexpr std::string_view kTemporary = ".tmp";  // and the number of the process, at a name's end

[[noreturn]] void fail_reading(const std::filesystem::path& path) {
  fail("{}: cannot be read ({})", path.string(), std::strerror(errno));
}

// Closes a file at the end of the scope.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

// A regular file has a size; a pipe or device is read to its end, up to a limit.
template <class Container>
Container read_whole(const std::filesystem::path& path) {
  constexpr size_t kLargestStream = size_t{1} << 30;
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat info {};
  check(file.get() >= 0 && ::fstat(file.get(), &info) == 0, "{}: cannot be opened ({})",
        path.string(), std::strerror(errno));
  check(!S_ISDIR(info.st_mode), "{}: is a folder, not a file", path.string());
  const bool regular = S_ISREG(info.st_mode);
  Container out;
  out.resize(regular ? static_cast<size_t>(info.st_size) : size_t{1} << 16);
  size_t done = 0;
  while (!regular || done < out.size()) {
    if (done == out.size()) {
      check(done < kLargestStream, "{}: is longer than {} bytes", path.string(), kLargestStream);
      out.resize(2 * out.size());
    }
    const ssize_t n = ::read(file.get(), out.data() + done, out.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_reading(path);
    if (n == 0) break;  // a file that has become shorter, too
    done += static_cast<size_t>(n);
  }
  out.resize(done);
  return out;
}

// Whether the parts were written; errno says why not.
bool write_parts(int fd, std::span<const std::span<const std::byte>> parts) {
  for (const auto& part : parts)
    for (size_t done = 0; done < part.size();) {
      const ssize_t n = ::write(fd, part.data() + done, part.size() - done);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return false;
      done += static_cast<size_t>(n);
    }
  return true;
}

[[noreturn]] void fail_writing(const std::filesystem::path& path, int why) {
  fail("{}: cannot be written ({})", path.string(), std::strerror(why));
}

void write_through(const std::filesystem::path& path,
                   std::span<const std::span<const std::byte>> parts) {
  const Descriptor file(::open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
  if (file.get() < 0 || !write_parts(file.get(), parts)) fail_writing(path, errno);
}

// Of a file that this process has open already, perhaps by a shell's redirection: a regular file,
// too, is then written where it is.
bool is_descriptor(const std::filesystem::path& path) {
  const std::string name = path.lexically_normal().string();
  return name.starts_with("/dev/fd/") || name.starts_with("/proc/") || name == "/dev/stdout" ||
         name == "/dev/stderr";
}

void write_whole(const std::filesystem::path& path,
                 std::span<const std::span<const std::byte>> parts, bool flush) {
  const std::filesystem::path target = link_target(path);
  struct stat info {};
  const bool there = ::stat(path.c_str(), &info) == 0;
  check(!there || !S_ISDIR(info.st_mode), "{}: is a folder, not a file", path.string());
  if ((there && !S_ISREG(info.st_mode)) || is_descriptor(path)) return write_through(path, parts);
  std::error_code ec;
  if (target.has_parent_path()) {
    std::filesystem::create_directories(target.parent_path(), ec);
    check(!ec, "{}: folder cannot be created ({})", target.parent_path().string(), ec.message());
  }
  const InterruptScope scope;
  const std::string temporary =
      target.string() + std::string(kTemporary) + std::to_string(::getpid());
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) fail_writing(path, errno);
  bool ok = write_parts(fd, parts) && (!flush || ::fsync(fd) == 0);
  int why = errno;
  ok = ::close(fd) == 0 && ok;
  if (ok && ::rename(temporary.c_str(), target.c_str()) != 0) {
    why = errno;
    ok = false;
  }
  if (!ok) {
    ::unlink(temporary.c_str());
    fail_writing(path, why);
  }
}

}  // namespace

bool file_exists(const std::filesystem::path& path) {
  std::error_code ec;
  return std::filesystem::exists(path, ec);
}
bool is_folder(const std::filesystem::path& path) {
  std::error_code ec;
  return std::filesystem::is_directory(path, ec);
}
bool is_plain_file(const std::filesystem::path& path) {
  std::error_code ec;
  return std::filesystem::is_regular_file(path, ec);
}

std::filesystem::path link_target(std::filesystem::path path) {
  constexpr int kMostLinks = 40;  // as the system's limit
  std::error_code ec;
  for (int k = 0; k < kMostLinks; ++k) {
    const std::filesystem::path to = std::filesystem::read_symlink(path, ec);
    if (ec) return path;
    path = path.parent_path() / to;
  }
  fail("{}: is a link to itself", path.string());
}

std::string read_text(const std::filesystem::path& path) {
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  std::string text = read_whole<std::string>(path);
  if (text.starts_with(kByteOrderMark)) text.erase(0, kByteOrderMark.size());
  return text;
}

std::vector<uint8_t> read_bytes(const std::filesystem::path& path) {
  return read_whole<std::vector<uint8_t>>(path);
}

void write_atomically(const std::filesystem::path& path,
                      std::span<const std::span<const std::byte>> parts) {
  write_whole(path, parts, true);
}

void write_unflushed(const std::filesystem::path& path, std::span<const std::byte> bytes) {
  write_whole(path, {&bytes, 1}, false);
}

void write_atomically(const std::filesystem::path& path, std::string_view text) {
  const std::array<std::span<const std::byte>, 1> parts{std::as_bytes(std::span(text))};
  write_atomically(path, parts);
}

void remove_leftovers(const std::filesystem::path& folder) {
  std::error_code ec;
  for (const auto& entry : std::filesystem::directory_iterator(folder, ec)) {
    const std::string name = entry.path().filename().string();
    const size_t at = name.rfind(kTemporary);
    if (at == std::string::npos || at == 0) continue;
    const char* const end = name.data() + name.size();
    pid_t process = 0;
    const auto [stop, error] = std::from_chars(name.data() + at + kTemporary.size(), end, process);
    if (error != std::errc() || stop != end || process <= 0) continue;
    if (::kill(process, 0) != 0 && errno == ESRCH) std::filesystem::remove(entry.path(), ec);
  }
}

bool lies_in(const std::filesystem::path& file, const std::filesystem::path& folder) {
  std::error_code ec;
  const auto real = [&](const std::filesystem::path& path) {
    return std::filesystem::weakly_canonical(std::filesystem::absolute(path, ec), ec);
  };
  return real(file).parent_path() == real(folder);
}

}  // namespace sextant
