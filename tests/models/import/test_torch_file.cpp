// SPDX-License-Identifier: Apache-2.0
// Zip archives and the tensors in them, valid and hostile.
#include <cmath>
#include <cstring>

#include "core/convert.h"
#include "core/file.h"
#include "models/import/torch_file.h"
#include "support/pickles.h"
#include "support/support.h"

namespace {

using namespace sextant;
using namespace sextant::test::pickles;
using test::contains;

std::string floats(int n) {
  std::string out;
  for (int i = 0; i < n; ++i) {
    const auto v = static_cast<float>(i);
    out.append(reinterpret_cast<const char*>(&v), 4);
  }
  return out;
}

// The one tensor of a file, or the message.
Tensor read_tensor(const TensorPickle& t, const std::string& storage) {
  TorchFile f(file(document(tensor(t)), {storage}), "x.pt", {});
  return f.tensor(f.pickle().root(), "t");
}
std::string read_error(const TensorPickle& t, const std::string& storage) {
  return test::error_of([&] { read_tensor(t, storage); });
}

void put(std::vector<uint8_t>& bytes, size_t at, uint64_t v, int size) {
  for (int i = 0; i < size; ++i)
    bytes.at(at + static_cast<size_t>(i)) = static_cast<uint8_t>(v >> (8 * i));
}

}  // namespace

TEST_CASE("a state dict written for PyTorch survives the round trip") {
  const test::TemporaryFolder folder;
  SafeTensors s;
  s.add("a.weight", test::random_tensor(Shape{3, 2, 5, 4}, 1));
  s.add("a.bias", test::random_tensor(Shape{3}, 2));
  s.add("empty", Tensor(Shape{0, 4}));
  s.add("count", Tensor::from<int64_t>(Shape{}, std::vector<int64_t>{-7}));
  s.add("bytes", Tensor::from<uint8_t>(Shape{2}, std::vector<uint8_t>{0, 255}));
  save_torch_state_dict(folder / "a.pt", s);
  TorchFile f(read_bytes(folder / "a.pt"), "a.pt", {});
  const auto* pairs = f.pickle().pairs(f.pickle().root());
  REQUIRE(pairs);
  REQUIRE(pairs->size() == 2 * s.tensors.size());
  for (size_t i = 0; i < s.tensors.size(); ++i) {
    const auto& [name, t] = s.tensors[i];
    CHECK(f.pickle()[(*pairs)[2 * i]].text == name);
    const PickleValue& v = f.pickle()[(*pairs)[2 * i + 1]];
    REQUIRE(f.is_tensor(v));
    const Tensor back = f.tensor(v, name);
    REQUIRE(back.shape() == t.shape());
    REQUIRE(back.dtype() == t.dtype());
    CHECK(std::memcmp(back.raw(), t.raw(), static_cast<size_t>(t.bytes())) == 0);
  }
}

TEST_CASE("strides are followed, and refused where they leave the storage or share elements") {
  const std::string data = floats(24);
  // [2,3,4] stored channels-last: strides of [2,4,3] memory.
  const Tensor t = read_tensor({.count = 24, .size = {2, 3, 4}, .stride = {12, 1, 3}}, data);
  for (int64_t a = 0; a < 2; ++a)
    for (int64_t b = 0; b < 3; ++b)
      for (int64_t c = 0; c < 4; ++c)
        CHECK(t.f32()[(a * 3 + b) * 4 + c] == static_cast<float>(a * 12 + b + c * 3));
  const Tensor part =
      read_tensor({.count = 24, .offset = 5, .size = {2, 2}, .stride = {10, 1}}, data);
  CHECK(std::vector<float>(part.f32(), part.f32() + 4) == std::vector<float>{5, 6, 15, 16});
  CHECK(read_tensor({.count = 24, .offset = 23, .size = {}, .stride = {}}, data).f32()[0] == 23);
  CHECK(read_tensor({.count = 24, .offset = 24, .size = {0, 9}, .stride = {9, 1}}, data).numel() ==
        0);

  const int64_t huge = int64_t{1} << 62;
  const std::vector<std::pair<TensorPickle, const char*>> bad{
      {{.count = 24, .offset = 1, .size = {24}, .stride = {1}}, "outside its storage"},
      {{.count = 24, .offset = -1, .size = {4}, .stride = {1}}, "outside its storage"},
      {{.count = 24, .size = {4}, .stride = {8}}, "outside its storage"},
      {{.count = 24, .size = {huge, huge}, .stride = {huge, 1}}, "outside its storage"},
      {{.count = 24, .size = {huge, 2}, .stride = {0, 0}}, "outside its storage"},
      {{.count = 24, .offset = 2 * (huge - 1), .size = {2}, .stride = {2 * (huge - 1)}}, "outside"},
      {{.count = 24, .size = {25}, .stride = {0}}, "share memory"},
      {{.count = 24, .size = {int64_t{1} << 40}, .stride = {0}}, "share memory"},
      {{.count = 24, .offset = 20, .size = {4}, .stride = {-1}}, "negative"},
      {{.count = 24, .size = {-4}, .stride = {1}}, "negative"},
      {{.count = 24, .size = {4, 1}, .stride = {1}}, "not one stride for each"},
      {{.count = 24, .size = {1, 1, 1, 1, 1, 1, 1}, .stride = {1, 1, 1, 1, 1, 1, 1}}, "six"},
      {{.count = 25, .size = {4}, .stride = {1}}, "does not match the data"},
      {{.count = -24, .size = {4}, .stride = {1}}, "does not match the data"},
      {{.storage = "DoubleStorage", .count = 24, .size = {4}, .stride = {1}},
       "does not match the data"},
      {{.storage = "ComplexFloatStorage", .count = 24, .size = {4}, .stride = {1}},
       "'torch.ComplexFloatStorage'"},
      {{.key = "1", .count = 24, .size = {4}, .stride = {1}}, "no entry 'archive/data/1'"},
      {{.key = "../x", .count = 24, .size = {4}, .stride = {1}}, "no entry"},
  };
  for (const auto& [pickle, message] : bad) {
    const std::string e = read_error(pickle, data);
    INFO(e << " for " << message);
    CHECK(contains(e, message));
    CHECK(e.starts_with("x.pt: "));
  }
}

TEST_CASE("half, bfloat and double become float, exactly") {
  const std::string halves("\x00\x3c\x01\x00\xff\x7b\x00\x80\x00\xfc\x55\x35\xff\x03\x00\x04", 16);
  const Tensor h = to_f32(
      read_tensor({.storage = "HalfStorage", .count = 8, .size = {8}, .stride = {1}}, halves));
  const std::vector<float> expected{1.0f,      0x1p-24f,    65504.0f,        -0.0f,
                                    -INFINITY, 0x1.554p-2f, 1023 * 0x1p-24f, 0x1p-14f};
  for (size_t i = 0; i < 8; ++i) CHECK(h.f32()[i] == expected[i]);
  CHECK(std::signbit(h.f32()[3]));
  const Tensor b =
      to_f32(read_tensor({.storage = "BFloat16Storage", .count = 2, .size = {2}, .stride = {1}},
                         std::string("\x80\x3f\x49\xc0", 4)));
  CHECK(b.f32()[0] == 1.0f);
  CHECK(b.f32()[1] == -3.140625f);
  const Tensor d = to_f32(Tensor::from<double>(Shape{2}, std::vector<double>{0.1, -2.0}));
  CHECK(d.f32()[0] == 0.1f);
  CHECK(d.f32()[1] == -2.0f);
}

TEST_CASE("tensors that share a storage do not add up to more than twice the file") {
  std::string data(1 << 16, '\0'), many = "(";
  for (int i = 0; i < 40; ++i)
    many += text(std::to_string(i)) + tensor({.count = 1 << 14, .size = {1 << 14}, .stride = {1}});
  TorchFile f(file(document("}" + many + "u"), {data}), "x.pt", {});
  const auto& pairs = *f.pickle().pairs(f.pickle().root());
  CHECK(contains(test::error_of([&] {
                   for (size_t i = 1; i < pairs.size(); i += 2) f.tensor(f.pickle()[pairs[i]], "t");
                 }),
                 "more than twice the size of the file"));
}

TEST_CASE("a damaged or unusual zip is refused, naming file and entry") {
  const std::string pickle = document(tensor({.count = 4, .size = {4}, .stride = {1}}));
  const std::vector<uint8_t> good = file(pickle, {floats(4)});
  const auto error_of_file = [](const std::vector<uint8_t>& b) {
    return test::error_of([&] {
      TorchFile f(b, "x.pt", {});
      f.tensor(f.pickle().root(), "t");
    });
  };
  REQUIRE(error_of_file(good) == "no error");
  // The directory: begin from the end record, then the entry of the storage.
  size_t end = good.size() - 22, begin = 0;
  std::memcpy(&begin, &good[end + 16], 4);
  const size_t first = begin, second = begin + 46 + std::strlen("archive/data.pkl");
  const auto changed = [&](size_t at, uint64_t v, int size) {
    std::vector<uint8_t> b = good;
    put(b, at, v, size);
    return error_of_file(b);
  };
  CHECK(contains(changed(second + 8, 1, 2), "'archive/data/0' is encrypted"));
  CHECK(contains(changed(second + 10, 8, 2), "'archive/data/0' is compressed"));
  CHECK(contains(changed(second + 20, 15, 4), "is compressed"));
  CHECK(contains(changed(second + 16, 1, 4), "'archive/data/0' is damaged (its CRC"));
  CHECK(contains(changed(first + 42, 0xfffffff0, 4), "lies outside the file"));
  CHECK(contains(changed(first + 42, 1, 4), "has no header at 1"));
  CHECK(contains(changed(second + 42, 0, 4), "disagree"));
  CHECK(contains(changed(first + 46, 'b', 1), "disagree"));
  CHECK(contains(changed(first + 28, 60000, 2), "ends at byte"));
  CHECK(contains(changed(end + 8, 2, 2), "split zip"));
  CHECK(contains(changed(end + 10, 0, 2), "split zip"));
  CHECK(contains(changed(end + 12, 1, 4), "is damaged (directory"));
  CHECK(contains(changed(end + 16, 0, 4), "is damaged (directory"));
  CHECK(contains(changed(end, 0, 1), "not a zip file"));
  std::vector<uint8_t> b = good;
  put(b, second + 20, 0x7fffffff, 4);
  put(b, second + 24, 0x7fffffff, 4);
  CHECK(contains(error_of_file(b), "of 2147483647 bytes lies outside the file"));
  b = good;
  put(b, first + 20, begin - 100, 4);  // reaches over the others
  put(b, first + 24, begin - 100, 4);
  CHECK(contains(error_of_file(b), "overlap"));
  b = good;  // damage in the data itself
  b[begin - 1] ^= 1;
  CHECK(error_of_file(b) == "no error");  // of the entry "version", which nobody reads
  for (size_t n = 0; n < good.size(); ++n)
    CHECK(error_of_file({good.begin(), good.begin() + static_cast<std::ptrdiff_t>(n)}) !=
          "no error");

  const ZipItem twice[]{{"a/data.pkl", bytes(pickle)}, {"a/data.pkl", bytes(pickle)}};
  CHECK(contains(error_of_file(make_zip(twice)), "duplicate entry 'a/data.pkl'"));
  const ZipItem two[]{{"a/data.pkl", bytes(pickle)}, {"b/data.pkl", bytes(pickle)}};
  CHECK(contains(error_of_file(make_zip(two)), "two pickles"));
  const ZipItem none[]{{"a/b", bytes(pickle)}};
  CHECK(contains(error_of_file(make_zip(none)), "no data.pkl"));
  const ZipItem big[]{{"a/data.pkl", bytes(pickle)}, {"a/byteorder", bytes("big")}};
  CHECK(contains(error_of_file(make_zip(big)), "little-endian"));
  const std::string legacy = "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02";
  CHECK(contains(error_of_file({legacy.begin(), legacy.end()}), "before PyTorch 1.6"));
}

TEST_CASE("a 64-bit directory is read, and false values in it are refused") {
  const std::string pickle = document(tensor({.count = 4, .size = {4}, .stride = {1}}));
  const std::vector<uint8_t> plain = file(pickle, {floats(4)});
  uint32_t begin = 0, size = 0;
  const size_t old_end = plain.size() - 22;
  std::memcpy(&size, &plain[old_end + 12], 4);
  std::memcpy(&begin, &plain[old_end + 16], 4);
  struct Fields {
    uint64_t entries = 3, size, begin, at;
    uint16_t entries32 = 3;
    uint32_t begin32;
  };
  const auto make = [&](const Fields& f) {
    std::vector<uint8_t> b(plain.begin(), plain.begin() + static_cast<std::ptrdiff_t>(old_end));
    const std::string tail = number(0x06064b50, 4) + number(44, 8) + number(45, 2) + number(45, 2) +
                             number(0, 8) + number(f.entries, 8) + number(f.entries, 8) +
                             number(f.size, 8) + number(f.begin, 8) + number(0x07064b50, 4) +
                             number(0, 4) + number(f.at, 8) + number(1, 4) + number(0x06054b50, 4) +
                             number(0, 4) + number(f.entries32, 2) + number(f.entries32, 2) +
                             number(size, 4) + number(f.begin32, 4) + number(0, 2);
    b.insert(b.end(), tail.begin(), tail.end());
    return test::error_of([&] {
      TorchFile t(b, "x.pt", {});
      t.tensor(t.pickle().root(), "t");
    });
  };
  const Fields good{.size = size, .begin = begin, .at = old_end, .begin32 = begin};
  CHECK(make(good) == "no error");
  Fields f = good;
  f.entries32 = 0xffff;
  f.begin32 = 0xffffffff;
  CHECK(make(f) == "no error");
  f = good;
  f.begin = uint64_t{1} << 63;
  CHECK(contains(make(f), "64-bit directory says"));
  f.begin32 = 0xffffffff;
  CHECK(contains(make(f), "is damaged (directory"));
  f = good;
  f.entries = uint64_t{1} << 60;
  f.entries32 = 0xffff;
  CHECK(contains(make(f), "ends at byte"));
  f = good;
  f.at = ~uint64_t{0};
  CHECK(contains(make(f), "64-bit directory at"));
  f.at = 3;
  CHECK(contains(make(f), "64-bit directory at 3"));
}
