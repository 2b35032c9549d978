// SPDX-License-Identifier: Apache-2.0
// Parsing text to JSON, and reading typed values from JSON.
#include <limits>

#include "core/config.h"
#include "core/json.h"
#include "core/text.h"
#include "support/support.h"

using namespace sextant;
using sextant::test::Contains;
using sextant::test::error_of;

namespace {

std::string nested(size_t depth, const char* open = "[", const char* close = "]") {
  std::string text;
  for (size_t i = 0; i < depth; ++i) text += open;
  for (size_t i = 0; i < depth; ++i) text += close;
  return text;
}

std::string error(const std::string& text) {
  return error_of([&] { parse_json(text, "a.json"); });
}

template <class T>
std::optional<T> read(const std::string& text) {
  T value{};
  return read_value(parse_json(text, "x"), value) ? std::optional<T>(value) : std::nullopt;
}

}  // namespace

TEST_CASE("json: values as nlohmann's own parser makes them") {
  for (const char* text :
       {"{}", "[]", "null", "true", "-3", "18446744073709551615", "1.5e-3", "\"a\\u00e9\"",
        R"({"b": [1, {"c": null}, "x"], "a": {"d": [[], {}], "e": false}})",
        R"([[[1], 2], {"k": [3]}, "z"])"}) {
    INFO(text);
    CHECK(parse_json(text, "x") == Json::parse(text));
    CHECK(parse_json(text, "x").dump() == Json::parse(text).dump());  // the order of members too
  }
  CHECK(parse_json("/* c */ [1, // d\n 2]", "x").size() == 2);
}

TEST_CASE("json: mistakes are reported with the file and, if known, the position") {
  CHECK(error("{\n  \"a\": 1,,\n}") == "a.json: line 2, column 10: not valid JSON");
  CHECK(error("") == "a.json: line 1, column 1: not valid JSON");
  CHECK_THAT(error("[1] 2"), Contains("not valid JSON"));
  CHECK_THAT(error("\"\xf6\""), Contains("not valid JSON"));
  CHECK_THAT(error("[1,\n1e999]"), Contains("line 2") && Contains("too large"));
  CHECK(error(R"({"a": 1, "b": {"c": 1, "d": 2, "c": 3}})") ==
        "a.json: has the key 'c' twice in one object");
}

TEST_CASE("json: depth is bounded before anything recurses over it") {
  CHECK(error(nested(kMaxJsonDepth)) == "no error");
  CHECK_THAT(error(nested(kMaxJsonDepth + 1)), Contains("nested more than 64 deep"));
  CHECK_THAT(error(nested(100000)), Contains("nested more than 64 deep"));
  CHECK_THAT(error(nested(100000, "{\"a\":", "}")), Contains("nested more than 64 deep"));
  CHECK_THAT(error(std::string(1000000, '[')), Contains("nested more than 64 deep"));
  // As an override, it is not taken for a text.
  Json config = Json::object();
  CHECK_THAT(error_of([&] { apply_override(config, "a=" + nested(100000)); }),
             Contains("--set a") && Contains("nested"));
}

TEST_CASE("json: a value is read as its type only") {
  CHECK(read<int>("3") == 3);
  CHECK(read<int>("3.0") == 3);
  CHECK(read<int>("-2147483648") == std::numeric_limits<int>::min());
  for (const char* text : {"3.7", "4294967360", "true", "\"3\"", "null", "1e300", "[3]",
                           "99999999999999999999999", "-2147483649"}) {
    INFO(text);
    CHECK_FALSE(read<int>(text));
  }
  CHECK(read<int64_t>("9223372036854775807") == std::numeric_limits<int64_t>::max());
  CHECK_FALSE(read<int64_t>("9223372036854775808"));
  CHECK(read<uint64_t>("18446744073709551615") == std::numeric_limits<uint64_t>::max());
  CHECK_FALSE(read<uint64_t>("-1"));
  CHECK(read<double>("7") == 7.0);
  CHECK_FALSE(read<double>("false"));
  CHECK(read<float>("0.5") == 0.5f);
  CHECK_FALSE(read<float>("1e39"));
  CHECK(read<bool>("true") == true);
  CHECK_FALSE(read<bool>("1"));
  CHECK_FALSE(read<std::string>("1"));
  CHECK(read<std::vector<int64_t>>("[1, 2]") == std::vector<int64_t>{1, 2});
  CHECK_FALSE(read<std::vector<int64_t>>("[1, 2.5]"));
  CHECK(read<std::vector<std::vector<double>>>("[[1], []]")->size() == 2);
}

TEST_CASE("config: numbers that another reader would change are refused by their key") {
  const auto error_at = [](const char* text, auto value) {
    ConfigReader r(parse_json(text, "c.json"), "c.json");
    return error_of([&] { r.number("n", value, 1, 4096); });
  };
  CHECK(error_at(R"({"n": 3.7})", int64_t{1}) ==
        "c.json: 'n' is 3.7, must be a whole number in [1, 4096]");
  CHECK_THAT(error_at(R"({"n": 4294967360})", 1), Contains("'n' is 4294967360, must be"));
  CHECK_THAT(error_at(R"({"n": 1000000000000000000000000})", int64_t{1}), Contains("'n' is 1e+24"));
  CHECK_THAT(error_at(R"({"n": true})", 1), Contains("wrong type: true"));
  CHECK(error_at(R"({"n": 8})", 1) == "no error");
  CHECK(error_at(R"({"n": 8.5})", 1.0) == "no error");
  ConfigReader r(parse_json(R"({"n": 0.5})", "c.json"), "c.json");
  int n = 0;
  CHECK_THAT(error_of([&] { r.get("n", n); }), Contains("'n' is 0.5") && Contains("whole number"));
}

TEST_CASE("json: an override is JSON, else text, and always UTF-8") {
  CHECK(parse_json_or_string("[1", "x") == Json("[1"));
  CHECK(parse_json_or_string("[1]", "x") == Json::parse("[1]"));
  Json config = Json::object();
  CHECK_THAT(error_of([&] { apply_override(config, "data.path=s\xe9t"); }), Contains("not UTF-8"));
}

TEST_CASE("json: output is UTF-8, messages are short") {
  CHECK(json_text(Json("caf\xe9")) == "\"caf\xEF\xBF\xBD\"");
  CHECK(json_text(parse_json("{\"a\": [1]}", "x"), 2) == "{\n  \"a\": [\n    1\n  ]\n}");
  CHECK(short_json(Json("abc")) == "\"abc\"");
  Json list = Json::array();
  for (int i = 0; i < 200; ++i) list.push_back("\u00e9");
  CHECK(short_json(list).size() <= 103);
  CHECK(is_utf8(short_json(list)));
}

TEST_CASE("text: UTF-8 as in RFC 3629, and one line for messages") {
  CHECK(is_utf8("Größe 箱子 \U0001F600"));
  for (const char* text : {"\xf6", "a\xc3", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80",
                           "\xf4\x90\x80\x80", "\xf8\x88\x80\x80\x80", "\x80"}) {
    INFO(printable(text));
    CHECK_FALSE(is_utf8(text));
  }
  CHECK(printable("a\nb\tc\x1b\xf6 é") == "a\\nb\\tc\\x1b\\xf6 é");
  CHECK(excerpt("a\n") == "a\\n");
  CHECK(excerpt(std::string(200, 'x')) == std::string(200, 'x'));
  CHECK(excerpt(std::string(201, 'x')) == std::string(200, 'x') + "...");
}
