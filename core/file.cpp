#include "core/file.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <system_error>

#include "core/error.h"

namespace sextant {
namespace {

template <class Container>
Container read_whole(const std::filesystem::path& path) {
  std::error_code ec;
  check(!std::filesystem::is_directory(path, ec), "{}: is a folder, not a file", path.string());
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  check(in.good(), "{}: cannot be opened ({})", path.string(), std::strerror(errno));
  Container out;
  out.resize(static_cast<size_t>(in.tellg()));
  in.seekg(0);
  in.read(reinterpret_cast<char*>(out.data()), static_cast<std::streamsize>(out.size()));
  check(in.good() || out.empty(), "{}: cannot be read", path.string());
  return out;
}

}  // namespace

std::string read_text(const std::filesystem::path& path) { return read_whole<std::string>(path); }

std::vector<uint8_t> read_bytes(const std::filesystem::path& path) {
  return read_whole<std::vector<uint8_t>>(path);
}

void write_atomically(const std::filesystem::path& path,
                      std::span<const std::span<const std::byte>> parts) {
  std::error_code ec;
  if (path.has_parent_path()) {
    std::filesystem::create_directories(path.parent_path(), ec);
    check(!ec, "{}: folder cannot be created ({})", path.parent_path().string(), ec.message());
  }
  const std::string temporary = path.string() + ".tmp" + std::to_string(::getpid());
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  check(fd >= 0, "{}: cannot be written ({})", path.string(), std::strerror(errno));
  bool ok = true;
  for (const auto& part : parts) {
    size_t done = 0;
    while (ok && done < part.size()) {
      const ssize_t n = ::write(fd, part.data() + done, part.size() - done);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0)
        ok = false;
      else
        done += static_cast<size_t>(n);
    }
  }
  ok = ok && ::fsync(fd) == 0;
  int why = errno;
  ok = ::close(fd) == 0 && ok;
  if (ok && ::rename(temporary.c_str(), path.c_str()) != 0) {
    why = errno;
    ok = false;
  }
  if (!ok) {
    ::unlink(temporary.c_str());
    fail("{}: cannot be written ({})", path.string(), std::strerror(why));
  }
}

void write_atomically(const std::filesystem::path& path, std::string_view text) {
  const std::array<std::span<const std::byte>, 1> parts{std::as_bytes(std::span(text))};
  write_atomically(path, parts);
}

}  // namespace sextant
