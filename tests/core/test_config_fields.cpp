// SPDX-License-Identifier: Apache-2.0
// Enum names, and configs whose keys are spelt once.
#include "core/config_fields.h"
#include "core/device.h"
#include "support/support.h"

namespace {

using namespace sextant;
using test::error_of;

enum class Shape3 { kBox, kBall, kCone };
constexpr auto enum_names(Shape3) {
  return make_enum_names<Shape3>(
      "shape", {{Shape3::kBall, "ball"}, {Shape3::kBox, "box"}, {Shape3::kCone, "cone"}});
}

struct Sample {
  Shape3 shape = Shape3::kBox;
  std::vector<Shape3> more = {Shape3::kCone};
  int64_t count = 3;
  double taper = 0.5;  // of a cone
  std::string file = "a.txt", kind = "plain";
  Json extra = Json::object();

  void fields(ConfigFields& f) {
    f("shape", shape);
    f("more", more);
    f.object("size", [&](ConfigFields& s) {
      s("count", count, 1, 9);
      if (s.applies(shape == Shape3::kCone, "taper", "goes with 'shape' \"cone\""))
        s("taper", taper, 0, 1);
    });
    f.path("file", file);
    f.name("kind", kind, "kind", {"plain", "fancy"});
    f.verbatim("extra", extra);
  }
};

Sample read(const char* text) {
  ConfigReader r(Json::parse(text), "s.json", "", "folder");
  Sample s;
  read_fields(r, s);
  r.finish();
  return s;
}

}  // namespace

TEST_CASE("an enum has one table of names") {
  CHECK(name_of(Shape3::kBox) == "box");
  CHECK(from_name<Shape3>("cone") == Shape3::kCone);
  CHECK(names_of<Shape3>() == std::vector<std::string>{"ball", "box", "cone"});
  CHECK(error_of([] { from_name<Shape3>("cube"); }) ==
        "unknown shape 'cube'; use ball, box or cone");
  // with some of the values only
  CHECK(from_name<Shape3>("box", {Shape3::kBox}) == Shape3::kBox);
  CHECK(error_of([] { from_name<Shape3>("cone", {Shape3::kBox}); }) ==
        "unknown shape 'cone'; use box");
  CHECK(one_of_list({"a", "b"}) == "a or b");
}

TEST_CASE("a config reads and writes the same keys") {
  const Sample s = read(R"({"shape": "cone", "more": ["ball", "box"], "kind": "fancy",
                            "size": {"count": 5, "taper": 0.25}, "file": "b.txt",
                            "extra": {"any": 1}})");
  CHECK(s.shape == Shape3::kCone);
  CHECK(s.more == std::vector{Shape3::kBall, Shape3::kBox});
  CHECK(s.count == 5);
  CHECK(s.taper == 0.25);
  CHECK(s.file == "folder/b.txt");
  CHECK(s.extra.at("any") == 1);
  Json json = fields_to_json(s);
  CHECK(json.at("file") == (std::filesystem::current_path() / "folder/b.txt").string());
  json["file"] = s.file;
  // in the order of fields()
  CHECK(json == Json::parse(R"({"shape": "cone", "more": ["ball", "box"],
                                "size": {"count": 5, "taper": 0.25}, "file": "folder/b.txt",
                                "kind": "fancy", "extra": {"any": 1}})"));
  CHECK(read("{}").shape == Shape3::kBox);
}

TEST_CASE("a key that means nothing is refused, and written only when every key is asked for") {
  CHECK(error_of([] { read(R"({"size": {"taper": 0.5}})"); }) ==
        "s.json: 'size.taper' goes with 'shape' \"cone\"");
  CHECK_FALSE(fields_to_json(Sample{}).at("size").contains("taper"));
  CHECK(fields_to_json(Sample{}, true).at("size").at("taper") == 0.5);
}

TEST_CASE("a config's mistakes name the key") {
  CHECK(error_of([] { read(R"({"shape": "cube"})"); }) ==
        "s.json: 'shape': unknown shape 'cube'; use ball, box or cone");
  CHECK(error_of([] { read(R"({"more": ["box", "cube"]})"); }) ==
        "s.json: 'more': unknown shape 'cube'; use ball, box or cone");
  CHECK(error_of([] { read(R"({"more": "box"})"); }) ==
        "s.json: 'more' has the wrong type: \"box\"");
  CHECK(error_of([] { read(R"({"size": {"count": 10}})"); }) ==
        "s.json: 'size.count' is 10, must be in [1, 9]");
  CHECK(error_of([] { read(R"({"size": {"cuont": 1}})"); }) ==
        "s.json: unknown key 'size.cuont'; nearest is 'size.count'");
  CHECK(error_of([] { read(R"({"kind": "odd"})"); }) ==
        "s.json: 'kind': unknown kind 'odd'; use plain or fancy");
  CHECK(error_of([] { read(R"({"extra": 1})"); }) == "s.json: 'extra' must be a JSON object");
}
