// SPDX-License-Identifier: Apache-2.0
// Zip archives whose entries are stored uncompressed, as PyTorch writes its files. A compressed or
// encrypted entry is refused.
//
// PKWARE, APPNOTE.TXT 6.3: 4.3.7 local header, 4.3.12 central directory, 4.3.14-4.3.16 its end
// records, 4.5.3 the 64-bit sizes.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "models/import/byte_reader.h"

namespace sextant {

// CRC-32 of zip, gzip and PNG (polynomial 0xEDB88320); `before` is the CRC of the preceding bytes.
uint32_t crc32(std::span<const uint8_t> bytes, uint32_t before = 0);

class ZipArchive {
 public:
  // Reads the central directory. `path` starts each message. Throws Error for anything malformed:
  // sizes or offsets outside the file, overlapping or duplicate entries, a local header with
  // another name, a 64-bit directory that contradicts the 32-bit one, several disks.
  ZipArchive(std::vector<uint8_t> bytes, std::string path);

  struct Entry {
    uint64_t offset = 0;  // of the data
    uint64_t size = 0;
    uint32_t crc = 0;
    bool verified = false;
  };
  const std::map<std::string, Entry>& entries() const { return entries_; }
  // The data of an entry, valid as long as the archive; the first call verifies its CRC. Throws
  // Error naming file and entry when it is absent or damaged.
  std::span<const uint8_t> read(const std::string& name);
  uint64_t file_size() const { return bytes_.size(); }

 private:
  struct Directory {
    uint64_t offset = 0, size = 0, entries = 0;
  };
  std::span<const uint8_t> view(size_t offset, size_t size = std::dynamic_extent) const {
    return std::span<const uint8_t>(bytes_).subspan(offset, size);
  }
  Directory find_directory() const;
  void read_entry(ByteReader& directory, uint64_t limit);
  void check_overlap() const;

  std::vector<uint8_t> bytes_;
  std::string path_;
  std::map<std::string, Entry> entries_;
  std::map<uint64_t, uint64_t> extents_;  // begin of a local header -> end of its data
};

struct ZipItem {
  std::string name;
  std::span<const uint8_t> bytes;
};
// An archive of the items in order, stored uncompressed, with the data of each 64-byte aligned as
// PyTorch does (padding in an extra field "FB"). Throws Error at 4 GiB or 65535 items.
std::vector<uint8_t> make_zip(std::span<const ZipItem> items);

}  // namespace sextant
