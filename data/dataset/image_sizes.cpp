// SPDX-License-Identifier: Apache-2.0
#include "data/dataset/image_sizes.h"

#include <sys/stat.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <unordered_map>

#include "core/error.h"
#include "core/file.h"
#include "core/hash.h"
#include "core/parallel.h"
#include "core/progress.h"

namespace sextant::data {
namespace {

namespace fs = std::filesystem;

// To be changed with the meaning of a size or the layout of the file.
constexpr std::string_view kTitle = "sextant image sizes 2\n";
constexpr size_t kFewest = 256;

// The identity of a file.
struct Stamp {
  uint64_t inode = 0;
  int64_t bytes = 0, modified = 0, changed = 0;  // nanoseconds
  bool operator==(const Stamp&) const = default;
};

struct Known {
  Stamp stamp;
  int32_t width = 0, height = 0;
};
static_assert(std::is_trivially_copyable_v<Known>);

int64_t nanoseconds(const timespec& t) { return int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec; }

std::optional<Stamp> stamp_of(const std::string& path) {
  struct stat s {};
  if (::stat(path.c_str(), &s) != 0 || !S_ISREG(s.st_mode)) return std::nullopt;
  return Stamp{s.st_ino, s.st_size, nanoseconds(s.st_mtim), nanoseconds(s.st_ctim)};
}

std::optional<fs::path> cache_file(const std::string& key) {
  const auto folder = [](const char* variable, const char* below) -> std::optional<fs::path> {
    const char* value = std::getenv(variable);
    if (value == nullptr || *value == '\0') return std::nullopt;
    return fs::path(value) / below;
  };
  auto at = folder("SEXTANT_CACHE", "");
  if (!at) at = folder("XDG_CACHE_HOME", "sextant");
  if (!at) at = folder("HOME", ".cache/sextant");
  if (!at) return std::nullopt;
  std::error_code ec;
  const std::string absolute = fs::absolute(key, ec).string();
  return *at / ("image-sizes-" + Hash64().add(absolute).text());
}

using Cache = std::unordered_map<std::string, Known>;

// Title, checksum of the rest, then size, stamp and path of each image. A damaged file is ignored.
Cache parse_cache(std::string_view text) {
  Cache cache;
  uint64_t checksum = 0;
  if (!text.starts_with(kTitle) || text.size() < kTitle.size() + sizeof(checksum)) return cache;
  text.remove_prefix(kTitle.size());
  std::memcpy(&checksum, text.data(), sizeof(checksum));
  text.remove_prefix(sizeof(checksum));
  if (Hash64().add(text).value() != checksum) return cache;
  while (text.size() >= sizeof(Known) + sizeof(uint32_t)) {
    Known known;
    uint32_t length = 0;
    std::memcpy(&known, text.data(), sizeof(known));
    std::memcpy(&length, text.data() + sizeof(known), sizeof(length));
    text.remove_prefix(sizeof(known) + sizeof(length));
    if (length > text.size() || known.width <= 0 || known.height <= 0) return {};
    cache.emplace(text.substr(0, length), known);
    text.remove_prefix(length);
  }
  return cache;
}

Cache load_cache(const fs::path& file) {
  std::error_code ec;
  if (!fs::is_regular_file(file, ec)) return {};
  try {
    return parse_cache(read_text(file));
  } catch (const Error&) {
    return {};
  }
}

// Failing to write the cache only makes the next start slower.
void save_cache(const fs::path& file, const std::vector<std::string>& images,
                const std::vector<Known>& known) {
  std::string body;
  for (size_t i = 0; i < images.size(); ++i) {
    if (known[i].width == 0) continue;
    const auto length = static_cast<uint32_t>(images[i].size());
    body.append(reinterpret_cast<const char*>(&known[i]), sizeof(Known));
    body.append(reinterpret_cast<const char*>(&length), sizeof(length));
    body += images[i];
  }
  const uint64_t checksum = Hash64().add(body).value();
  std::string text(kTitle);
  text.append(reinterpret_cast<const char*>(&checksum), sizeof(checksum));
  try {
    write_atomically(file, text + body);
  } catch (const Error&) {
  }
}

// The reason why the image has no size, without its name; "" if it has one.
std::string read_size(const std::string& image, std::optional<ImageSize>& size) {
  try {
    size = image_size(image);
    return {};
  } catch (const std::exception& e) {
    const std::string message = e.what();
    return message.starts_with(image + ": ") ? message.substr(image.size() + 2) : message;
  }
}

}  // namespace

std::vector<std::optional<ImageSize>> read_image_sizes(const std::vector<std::string>& images,
                                                       const std::string& key,
                                                       LabelReport& report) {
  constexpr int64_t kSettled = 2'000'000'000;  // nanoseconds
  const int64_t settled = std::chrono::duration_cast<std::chrono::nanoseconds>(
                              std::chrono::system_clock::now().time_since_epoch())
                              .count() -
                          kSettled;
  const auto file = images.size() >= kFewest ? cache_file(key) : std::nullopt;
  const Cache cache = file ? load_cache(*file) : Cache();
  std::vector<std::optional<ImageSize>> sizes(images.size());
  std::vector<Known> known(images.size());  // to be written to the cache
  std::vector<char> from_cache(images.size(), 0);
  std::vector<std::string> problems(images.size());
  parallel_for(static_cast<int64_t>(images.size()), 32, [&](int64_t begin, int64_t end) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
      const auto stamp = file ? stamp_of(images[i]) : std::nullopt;
      const auto at = stamp ? cache.find(images[i]) : cache.end();
      if (at != cache.end() && at->second.stamp == *stamp) {
        known[i] = at->second;
        sizes[i] = ImageSize{known[i].width, known[i].height};
        from_cache[i] = 1;
        continue;
      }
      problems[i] = read_size(images[i], sizes[i]);
      if (sizes[i] && stamp && std::max(stamp->modified, stamp->changed) < settled)
        known[i] = {*stamp, sizes[i]->width, sizes[i]->height};
    }
  });
  for (size_t i = 0; i < images.size(); ++i)
    if (!sizes[i]) report.add({images[i], 0, false, "image", problems[i]});
  const auto cached = std::ranges::count(from_cache, 1);
  if (file && cached < std::ssize(images)) save_cache(*file, images, known);
  if (cached > 0)
    print_notice(fmt::format("{}: {} of {} image sizes as kept in {}", key, cached, images.size(),
                             file->string()));
  return sizes;
}

}  // namespace sextant::data
