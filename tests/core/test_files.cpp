// SPDX-License-Identifier: Apache-2.0
// safetensors, atomic writing, configs.
#include <fstream>

#include "core/config.h"
#include "core/file.h"
#include "core/safetensors.h"
#include "support/support.h"

namespace {

using namespace sextant;
using test::contains;
using test::error_of;

void write_raw(const std::filesystem::path& path, const std::string& header,
               const std::string& data) {
  std::ofstream out(path, std::ios::binary);
  const uint64_t n = header.size();
  out.write(reinterpret_cast<const char*>(&n), 8);
  out << header << data;
}

}  // namespace

TEST_CASE("safetensors survive a round trip") {
  const test::TemporaryFolder folder;
  SafeTensors file;
  file.metadata["note"] = "a \"quoted\" line\n";
  file.add("f", test::random_tensor(Shape{2, 3, 4}, 1));
  file.add("empty", Tensor(Shape{0, 4}));
  file.add("scalar", Tensor::from<int64_t>(Shape{}, std::vector<int64_t>{-7}));
  file.add("bytes", Tensor::from<int8_t>(Shape{3}, std::vector<int8_t>{-128, 0, 127}));
  save_safetensors(folder / "a.safetensors", file);
  const SafeTensors back = load_safetensors(folder / "a.safetensors");
  REQUIRE(back.tensors.size() == 4);
  CHECK(back.tensors[0].first == "f");
  CHECK(test::max_difference(back.at("f"), file.at("f")) == 0);
  CHECK(back.at("empty").shape() == Shape{0, 4});
  CHECK(back.at("scalar").shape().rank() == 0);
  CHECK(*back.at("scalar").data<int64_t>() == -7);
  CHECK(back.at("bytes").data<int8_t>()[0] == -128);
  CHECK(back.meta("note") == "a \"quoted\" line\n");
  CHECK(contains(error_of([&] { back.at("g"); }), "a.safetensors: has no tensor 'g'"));
}

TEST_CASE("a malformed safetensors file is refused, naming file and tensor") {
  const test::TemporaryFolder folder;
  const auto path = folder / "bad.safetensors";
  const auto error = [&](const std::string& header, const std::string& data) {
    write_raw(path, header, data);
    const std::string e = error_of([&] { load_safetensors(path); });
    CHECK((e == "no error" || contains(e, "bad.safetensors: ")));
    return e;
  };
  const std::string data(16, 'x');
  CHECK(error(R"({"t":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})", data) == "no error");
  CHECK(contains(error("{", data), "header"));
  CHECK(contains(error("[]", data), "not a JSON object"));
  CHECK(contains(error(R"({"t":{"dtype":"F33","shape":[4],"data_offsets":[0,16]}})", data), "F33"));
  CHECK(contains(error(R"({"t":{"dtype":"F32","shape":[4],"data_offsets":[0,20]}})", data), "'t'"));
  CHECK(contains(error(R"({"t":{"dtype":"F32","shape":[3],"data_offsets":[0,16]}})", data), "'t'"));
  CHECK(
      contains(error(R"({"t":{"dtype":"F32","shape":[-1],"data_offsets":[0,16]}})", data), "'t'"));
  CHECK(contains(
      error(R"({"t":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", data),
      "'t'"));
  CHECK(contains(error(R"({"t":{"dtype":"F32","shape":[4],"data_offsets":[16,0]}})", data), "'t'"));
  CHECK(contains(error(R"({"t":{"shape":[4],"data_offsets":[0,16]}})", data), "'t'"));
  std::ofstream(path, std::ios::trunc) << "short";
  CHECK(contains(error_of([&] { load_safetensors(path); }), "not a safetensors file"));
  write_atomically(path, std::string(8, '\xff'));
  CHECK(contains(error_of([&] { load_safetensors(path); }), "not a safetensors file"));
  CHECK(contains(error_of([&] { load_safetensors(folder / "none"); }), "none: cannot be opened"));
  CHECK(contains(error_of([&] { load_safetensors(folder.path()); }), "is a folder"));
}

TEST_CASE("a file of another format is named, a header of any length is not taken for one") {
  const test::TemporaryFolder folder;
  const auto path = folder / "m.safetensors";
  const std::string header = R"({"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})";
  // Lengths that begin as PyTorch's older files (80 02), and as ONNX models (08 ? 12), do.
  for (const size_t length : {size_t{0x280}, size_t{0x120008}}) {
    write_raw(path, header + std::string(length - header.size(), ' '), "a");
    CHECK(load_safetensors(path).at("x").numel() == 1);
  }
  const auto said_of = [&](std::string_view bytes) {
    std::ofstream(path, std::ios::binary) << bytes;
    return error_of([&] { load_safetensors(path); });
  };
  using namespace std::string_view_literals;
  CHECK(contains(said_of("\x80\x02\x8a\x0al\xfc\x9c\x46\xf9 j\xa8"sv), "is a PyTorch file"));
  CHECK(contains(said_of("PK\x03\x04\x00\x00\x00\x00\x00\x00\x00\x00"sv), "is a PyTorch file"));
  CHECK(contains(said_of("\x08\x07\x12\x07pytorch\x1a"sv), "is an ONNX model"));
}

TEST_CASE("a failed write leaves the old file and no temporary behind") {
  const test::TemporaryFolder folder;
  write_atomically(folder / "a", std::string_view("old"));
  std::filesystem::create_directory(folder / "taken");
  CHECK(contains(error_of([&] { write_atomically(folder / "taken", std::string_view("x")); }),
                 "taken: is a folder, not a file"));
  CHECK(contains(error_of([&] { write_atomically(folder / "a" / "b", std::string_view("x")); }),
                 "cannot be created"));
  CHECK(read_text(folder / "a") == "old");
  int files = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder.path()))
    ++files;
  CHECK(files == 2);
}

TEST_CASE("an unknown key is refused with the nearest valid one") {
  ConfigReader r(Json::parse(R"({"epoch": 3, "solver": {"lr": 1}})"), "c.json");
  int epochs = 0;
  double lr0 = 0;
  r.get("epochs", epochs);
  ConfigReader s = r.child("solver");
  s.get("lr0", lr0);
  s.get("momentum", lr0);
  CHECK(error_of([&] { s.finish(); }) ==
        "c.json: unknown key 'solver.lr'; nearest is 'solver.lr0'");
  CHECK(error_of([&] { r.finish(); }) == "c.json: unknown key 'epoch'; nearest is 'epochs'");
}

TEST_CASE("a value of the wrong type, out of range or missing is named") {
  ConfigReader r(Json::parse(R"({"a": "x", "b": 5, "c": {"d": 1}})"), "c.json");
  int v = 0;
  std::string text = "p";
  CHECK(error_of([&] { r.get("a", v); }) == "c.json: 'a' has the wrong type: \"x\"");
  CHECK(error_of([&] { r.number("b", v, 0, 4); }) == "c.json: 'b' is 5, must be in [0, 4]");
  CHECK(error_of([&] { r.require("z", v); }) == "c.json: 'z' is missing");
  CHECK(error_of([&] {
          r.name("a", text, "letter", {"p", "q"});
        }) == "c.json: 'a': unknown letter 'x'; use p or q");
  Device device = Device::kCuda;
  CHECK(error_of([&] { r.get("a", device); }) ==
        "c.json: 'a': unknown device 'x'; use cpu or cuda");
  CHECK(error_of([&] { r.get("b", device); }) == "c.json: 'b' has the wrong type: 5");
  CHECK(device == Device::kCuda);
  CHECK(error_of([&] { r.child("b"); }) == "c.json: 'b' must be a JSON object");
}

TEST_CASE("overrides reach into the config") {
  Json j = Json::parse(R"({"a": {"b": 1}})");
  apply_override(j, "a.b=2.5");
  apply_override(j, "a.c=text");
  apply_override(j, "d=[1,2]");
  CHECK(j.dump() == R"({"a":{"b":2.5,"c":"text"},"d":[1,2]})");
  CHECK_THROWS_AS(apply_override(j, "novalue"), Error);
  CHECK_THROWS_AS(apply_override(j, "a..b=1"), Error);
  CHECK_THROWS_AS(apply_override(j, "a.b.c=1"), Error);
}

TEST_CASE("broken JSON is reported with line and column") {
  const test::TemporaryFolder folder;
  write_atomically(folder / "c.json", std::string_view("{\n  \"a\": 1,,\n}"));
  CHECK(contains(error_of([&] { load_json(folder / "c.json"); }), "c.json: line 2, column 10"));
}
