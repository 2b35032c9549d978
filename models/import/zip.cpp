// SPDX-License-Identifier: Apache-2.0
#include "models/import/zip.h"

#include <array>

#include "core/text.h"

namespace sextant {
namespace {

constexpr uint32_t kLocalHeader = 0x04034b50, kCentralHeader = 0x02014b50, kEnd = 0x06054b50,
                   kEnd64 = 0x06064b50, kLocator64 = 0x07064b50;
constexpr size_t kLocalSize = 30, kEndSize = 22, kEnd64Size = 56, kLocatorSize = 20;
constexpr uint32_t kMax32 = 0xffffffff;
constexpr uint16_t kMax16 = 0xffff;

constexpr std::array<uint32_t, 256> kCrcTable = [] {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t c = i;
    for (int bit = 0; bit < 8; ++bit) c = (c >> 1) ^ (c & 1 ? 0xedb88320 : 0);
    table[i] = c;
  }
  return table;
}();

// A field of the 32-bit directory is either the 64-bit value or the mark that says to look there.
void check_same(uint64_t wide, uint64_t narrow, uint64_t mark, const std::string& path) {
  check(narrow == mark || narrow == wide,
        "{}: is damaged (its 64-bit directory says {}, the other one {})", path, wide, narrow);
}

}  // namespace

uint32_t crc32(std::span<const uint8_t> bytes, uint32_t before) {
  uint32_t c = ~before;
  for (const uint8_t b : bytes) c = kCrcTable[(c ^ b) & 0xff] ^ (c >> 8);
  return ~c;
}

ZipArchive::ZipArchive(std::vector<uint8_t> bytes, std::string path)
    : bytes_(std::move(bytes)), path_(std::move(path)) {
  const Directory d = find_directory();
  ByteReader directory(view(d.offset, d.size), path_);
  for (uint64_t i = 0; i < d.entries; ++i) read_entry(directory, d.offset);
  check(directory.left() == 0, "{}: is damaged (its directory has {} extra bytes)", path_,
        directory.left());
  check_overlap();
}

ZipArchive::Directory ZipArchive::find_directory() const {
  // The end record is the last thing in the file except for a comment, whose length it holds.
  size_t end = bytes_.size();
  const size_t lowest = end > kEndSize + kMax16 ? end - kEndSize - kMax16 : 0;
  bool found = false;
  if (end >= kEndSize)
    for (end -= kEndSize;; --end) {
      ByteReader r(view(end), path_);
      if (r.number<uint32_t>() == kEnd) {
        r.take(16);
        found = r.number<uint16_t>() == bytes_.size() - end - kEndSize;
      }
      if (found || end == lowest) break;
    }
  check(found, "{}: is not a zip file, or is truncated (no directory at its end)", path_);

  ByteReader r(view(end + 4), path_);
  const auto disk = r.number<uint16_t>(), first_disk = r.number<uint16_t>();
  const auto here = r.number<uint16_t>(), total = r.number<uint16_t>();
  const auto size = r.number<uint32_t>(), offset = r.number<uint32_t>();
  check(disk == 0 && first_disk == 0 && here == total, "{}: is part of a split zip file", path_);
  Directory d{offset, size, total};

  const size_t locator = end >= kLocatorSize ? end - kLocatorSize : end;
  ByteReader l(view(locator), path_);
  if (l.number<uint32_t>() == kLocator64) {
    const auto disk64 = l.number<uint32_t>();
    const auto offset64 = l.number<uint64_t>();
    const auto disks = l.number<uint32_t>();
    check(disk64 == 0 && disks <= 1, "{}: is part of a split zip file", path_);
    check(offset64 <= locator && locator - offset64 >= kEnd64Size,
          "{}: is damaged (64-bit directory at {})", path_, offset64);
    ByteReader r64(view(offset64), path_);
    check(r64.number<uint32_t>() == kEnd64, "{}: is damaged (64-bit directory at {})", path_,
          offset64);
    r64.take(20);  // own size, versions, disks
    const auto here64 = r64.number<uint64_t>();
    d.entries = r64.number<uint64_t>();
    d.size = r64.number<uint64_t>();
    d.offset = r64.number<uint64_t>();
    check_same(d.entries, total, kMax16, path_);
    check_same(here64, total, kMax16, path_);
    check_same(d.size, size, kMax32, path_);
    check_same(d.offset, offset, kMax32, path_);
    end = offset64;
  }
  check(d.offset <= end && d.size == end - d.offset,
        "{}: is damaged (directory of {} bytes at {}, which should end at {})", path_, d.size,
        d.offset, end);
  return d;
}

void ZipArchive::read_entry(ByteReader& r, uint64_t limit) {
  check(r.number<uint32_t>() == kCentralHeader, "{}: is damaged (entry {} of its directory)", path_,
        entries_.size());
  r.take(4);  // versions
  const auto flags = r.number<uint16_t>(), method = r.number<uint16_t>();
  r.take(4);  // time
  Entry e;
  e.crc = r.number<uint32_t>();
  uint64_t packed = r.number<uint32_t>();
  e.size = r.number<uint32_t>();
  const auto name_size = r.number<uint16_t>(), extra_size = r.number<uint16_t>(),
             comment_size = r.number<uint16_t>();
  r.take(8);  // disk, attributes
  uint64_t header = r.number<uint32_t>();
  const std::string name(r.text(name_size));
  ByteReader extra(r.take(extra_size), path_);
  r.take(comment_size);
  while (extra.left() >= 4) {
    const auto id = extra.number<uint16_t>();
    ByteReader field(extra.take(extra.number<uint16_t>()), path_);
    if (id != 1) continue;
    if (e.size == kMax32) e.size = field.number<uint64_t>();
    if (packed == kMax32) packed = field.number<uint64_t>();
    if (header == kMax32) header = field.number<uint64_t>();
  }
  const std::string shown = excerpt(name);
  check((flags & 0x2041) == 0, "{}: entry '{}' is encrypted", path_, shown);
  check(method == 0 && packed == e.size, "{}: entry '{}' is compressed; PyTorch stores its entries",
        path_, shown);

  check(header <= limit && limit - header >= kLocalSize,
        "{}: entry '{}' lies outside the file (at {})", path_, shown, header);
  ByteReader local(view(header, limit - header), path_);
  check(local.number<uint32_t>() == kLocalHeader, "{}: entry '{}' has no header at {}", path_,
        shown, header);
  local.take(2);
  const auto local_flags = local.number<uint16_t>(), local_method = local.number<uint16_t>();
  local.take(16);  // time, CRC and sizes: zero where a descriptor follows, so not compared
  const auto local_name = local.number<uint16_t>(), local_extra = local.number<uint16_t>();
  check((local_flags & 0x2041) == 0 && local_method == 0 && local.text(local_name) == name,
        "{}: entry '{}' and its header at {} disagree", path_, shown, header);
  local.take(local_extra);
  check(e.size <= local.left(), "{}: entry '{}' of {} bytes lies outside the file", path_, shown,
        e.size);
  e.offset = header + local.position();
  check(entries_.emplace(name, e).second, "{}: duplicate entry '{}'", path_, shown);
  check(extents_.emplace(header, e.offset + e.size).second, "{}: entry '{}' overlaps another",
        path_, shown);
}

void ZipArchive::check_overlap() const {
  uint64_t end = 0;
  for (const auto& [begin, next_end] : extents_) {
    check(begin >= end, "{}: is damaged (entries overlap at byte {})", path_, begin);
    end = next_end;
  }
}

std::span<const uint8_t> ZipArchive::read(const std::string& name) {
  const auto it = entries_.find(name);
  check(it != entries_.end(), "{}: has no entry '{}'", path_, excerpt(name));
  Entry& e = it->second;
  const auto data = view(e.offset, e.size);
  if (!e.verified) {
    check(crc32(data) == e.crc, "{}: entry '{}' is damaged (its CRC differs)", path_,
          excerpt(name));
    e.verified = true;
  }
  return data;
}

namespace {

constexpr size_t kAlignment = 64;

class Buffer {
 public:
  Buffer& u16(uint64_t v) { return put(v, 2); }
  Buffer& u32(uint64_t v) { return put(v, 4); }
  Buffer& text(std::string_view t) {
    bytes_.insert(bytes_.end(), t.begin(), t.end());
    return *this;
  }
  Buffer& data(std::span<const uint8_t> d) {
    bytes_.insert(bytes_.end(), d.begin(), d.end());
    return *this;
  }
  std::vector<uint8_t>& bytes() { return bytes_; }
  size_t size() const { return bytes_.size(); }

 private:
  Buffer& put(uint64_t v, int size) {
    for (int i = 0; i < size; ++i) bytes_.push_back(static_cast<uint8_t>(v >> (8 * i)));
    return *this;
  }
  std::vector<uint8_t> bytes_;
};

}  // namespace

std::vector<uint8_t> make_zip(std::span<const ZipItem> items) {
  uint64_t expected = 0;
  for (const ZipItem& item : items) expected += item.bytes.size() + 2 * item.name.size() + 256;
  check(items.size() < kMax16 && expected < kMax32,
        "zip: {} entries of {} bytes are too many for one archive", items.size(), expected);
  Buffer out, directory;
  out.bytes().reserve(expected);
  for (const ZipItem& item : items) {
    const uint64_t begin = out.size(), data = begin + kLocalSize + item.name.size() + 4;
    const uint64_t padding = (kAlignment - data % kAlignment) % kAlignment;
    // What both headers hold: version 2.0, UTF-8 names, stored, 1980-01-01, CRC, sizes.
    const auto common = [&, crc = crc32(item.bytes)](Buffer& b) {
      b.u16(20).u16(0x0800).u16(0).u16(0).u16(0x21).u32(crc);
      b.u32(item.bytes.size()).u32(item.bytes.size()).u16(item.name.size());
    };
    out.u32(kLocalHeader);
    common(out);
    out.u16(4 + padding).text(item.name);
    out.text("FB").u16(padding).text(std::string(padding, 'Z')).data(item.bytes);
    directory.u32(kCentralHeader).u16(20);
    common(directory);  // then no extra field, no comment, disk 0, no attributes
    directory.u16(0).u16(0).u16(0).u16(0).u32(0).u32(begin).text(item.name);
  }
  const uint64_t begin = out.size();
  out.data(directory.bytes());
  out.u32(kEnd).u16(0).u16(0).u16(items.size()).u16(items.size());
  out.u32(directory.size()).u32(begin).u16(0);
  return std::move(out.bytes());
}

}  // namespace sextant
