// SPDX-License-Identifier: Apache-2.0
#include "deploy/onnx/external.h"

#include <charconv>
#include <fstream>
#include <set>

#include "core/error.h"
#include "core/file.h"
#include "core/text.h"

namespace sextant::deploy {
namespace {

namespace fs = std::filesystem;
using onnx::TensorProto;

constexpr int64_t kMaxBytes = int64_t{1} << 32;  // in all tensors

int64_t number(const std::string& text, const char* key) {
  int64_t value = -1;
  const auto end = std::from_chars(text.data(), text.data() + text.size(), value);
  check(end.ec == std::errc() && end.ptr == text.data() + text.size() && value >= 0,
        "its {} must be a number of bytes, not '{}'", key, excerpt(text));
  return value;
}

class Reader {
 public:
  explicit Reader(const fs::path& folder) : folder_(folder) {}

  void read(TensorProto& t) {
    if (t.data_location() != TensorProto::EXTERNAL) return;
    std::string location;
    int64_t offset = 0, length = -1;
    for (const auto& e : t.external_data()) {
      if (e.key() == "location") location = e.value();
      if (e.key() == "offset") offset = number(e.value(), "offset");
      if (e.key() == "length") length = number(e.value(), "length");
    }
    const fs::path inside = fs::path(location).lexically_normal();
    check(!location.empty() && inside.is_relative() && *inside.begin() != "..",
          "its data is in '{}', which is not in the model's folder", excerpt(location));
    const fs::path path = folder_ / inside;
    check(is_plain_file(path), "its data is in {}, which is not a file", path.string());
    // Links must not lead out of the folder: the model, not its user, chooses the file that is
    // read.
    const fs::path real = fs::canonical(path).lexically_relative(fs::canonical(folder_));
    check(!real.empty() && *real.begin() != "..",
          "its data is in {}, a link to a file outside the model's folder", path.string());
    const auto size = static_cast<int64_t>(fs::file_size(path));
    if (files_.insert(real).second) file_bytes_ += size;
    if (length < 0) length = size - offset;
    check(offset <= size && length >= 0 && length <= size - offset,
          "its data is {} bytes at offset {} of {}, which has {}", length, offset, path.string(),
          size);
    check(length <= kMaxBytes - total_, "the data in other files exceeds {} bytes", kMaxBytes);
    total_ += length;
    check(total_ <= 2 * file_bytes_,
          "the data in other files exceeds twice the size of these files");
    std::string bytes(static_cast<size_t>(length), '\0');
    std::ifstream file(path, std::ios::binary);
    file.seekg(offset);
    file.read(bytes.data(), length);
    check(file.good(), "{}: cannot be read", path.string());
    t.set_raw_data(std::move(bytes));
    t.clear_data_location();
    t.clear_external_data();
  }

  int64_t total() const { return total_; }

 private:
  fs::path folder_;
  int64_t total_ = 0;
  std::set<fs::path> files_;
  int64_t file_bytes_ = 0;
};

}  // namespace

int64_t read_external_data(onnx::GraphProto& graph, const fs::path& folder) {
  Reader reader(folder.empty() ? "." : folder);
  const auto read = [&](TensorProto& t, const std::string& name) {
    try {
      reader.read(t);
    } catch (const Error& e) {
      fail("tensor '{}': {}", excerpt(name), e.what());
    }
  };
  for (TensorProto& t : *graph.mutable_initializer()) read(t, t.name());
  for (onnx::NodeProto& n : *graph.mutable_node())
    for (onnx::AttributeProto& a : *n.mutable_attribute())
      if (a.has_t() && n.output_size() > 0) read(*a.mutable_t(), n.output(0));
  return reader.total();
}

}  // namespace sextant::deploy
