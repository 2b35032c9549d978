// SPDX-License-Identifier: Apache-2.0
// Pickles that Python would act on, and malformed ones: each is refused in one line.
#include "models/import/pickle.h"
#include "support/pickles.h"
#include "support/support.h"

namespace {

using namespace sextant;
using namespace sextant::test::pickles;
using test::contains;
using Kind = PickleValue::Kind;

const PickleNames kNames{{"collections.OrderedDict", "a.B"}, {"allowed."}};

Pickle parse(const std::string& whole) { return parse_pickle(bytes(whole), "x.pt", kNames); }
std::string parse_error(const std::string& whole) {
  return test::error_of([&] { parse(whole); });
}
std::string repeat(const std::string& text, size_t n) {
  std::string out;
  for (size_t i = 0; i < n; ++i) out += text;
  return out;
}

}  // namespace

TEST_CASE("a pickle becomes values, names and calls") {
  const std::string list = "](K\x01M\x02\x01J\xff\xff\xff\xff\x88\x89Ne";
  const Pickle p = parse(
      document(dict({{"list", list},
                     {"big", integer(-5'000'000'000)},
                     {"half", std::string("G\x3f\xe0\0\0\0\0\0\0", 9)},
                     {"object", global("a", "B") + text("x") + "\x85R" + dict({{"k", "]"}}) + "b"},
                     {"ordered", ordered_dict({{"k", text("é")}})},
                     {"outside", text("id") + "Q"},
                     {"list again", "]"}})));
  const auto at = [&](const char* key) -> const PickleValue& { return *p.find(p.root(), key); };
  REQUIRE(at("list").items.size() == 6);
  const std::vector<int64_t> expected{1, 258, -1, 1, 0};
  for (size_t i = 0; i < expected.size(); ++i) CHECK(p[at("list").items[i]].integer == expected[i]);
  CHECK(p[at("list").items[5]].kind == Kind::kNone);
  CHECK(at("big").integer == -5'000'000'000);
  CHECK(at("half").real == 0.5);
  CHECK(p.is_call(at("object"), "a.B"));
  CHECK(p[p[at("object").arguments].items[0]].text == "x");
  CHECK(p.find(p[at("object").state], "k")->kind == Kind::kList);
  CHECK(p.find(at("ordered"), "k")->text == "é");
  CHECK(p.find(at("ordered"), "none") == nullptr);
  CHECK(at("outside").kind == Kind::kPersistent);
}

TEST_CASE("a pickle that would run code is refused, naming the function") {
  const auto call = [](const char* module, const char* name) {
    return document(global(module, name) + text("echo harm") + "\x85R");
  };
  CHECK(parse_error(call("os", "system")) ==
        "x.pt: names 'os.system', which a checkpoint does not hold; nothing was run");
  CHECK(contains(parse_error(call("builtins", "eval")), "'builtins.eval'"));
  CHECK(contains(parse_error(call("__builtin__", "exec")), "'__builtin__.exec'"));
  CHECK(contains(parse_error(call("allowed.x y", "z")), "'allowed.x y.z'"));
  CHECK(contains(parse_error(call("a.B", "C")), "'a.B.C'"));
  CHECK(contains(parse_error(call("\x1b[2J", "x")), R"('\x1b[2J.x')"));
  CHECK(parse_error(call("allowed", "thing")) == "no error");
}

TEST_CASE("a malformed pickle is refused") {
  struct Case {
    std::string whole, message;
  };
  const std::string mark = "(";
  const std::vector<Case> cases{
      {"", "ends at byte 0"},
      {"\x80\x02", "ends at byte 2"},
      {"\x80\x04N.", "protocol 4"},
      {"N.", "no protocol"},
      {"\x80\x02\x80\x02N.", "a second protocol"},
      {document("N\x93"), "opcode 0x93"},                  // STACK_GLOBAL
      {document("\x8b\xff\xff\xff\x7fx"), "opcode 0x8b"},  // LONG4
      {document("i__main__\nX\n"), "opcode 0x69"},         // INST
      {document("o"), "opcode 0x6f"},                      // OBJ
      {document("\x82\x01"), "opcode 0x82"},               // EXT1
      {document("P0\n"), "opcode 0x50"},                   // PERSID
      {document(""), "does not end with one value"},
      {document("NN"), "does not end with one value"},
      {document("(N"), "does not end with one value"},
      {document("N") + "N", "does not end with one value"},
      {document("R"), "nothing left"},
      {document("N(R"), "nothing left"},  // the mark protects what is below
      {document("N(Na"), "nothing left"},
      {document("b"), "nothing left"},
      {document("q\x01"), "nothing left"},
      {document("t"), "no mark"},
      {document("]e"), "no mark"},
      {document("N\x87"), "nothing left"},
      {document("NNa"), "not a list"},
      {document("]NNs"), "not a dict"},
      {document("}(Nu"), "not a dict"},
      {document("NNR"), "not a name"},
      {document(global("a", "B") + "NR"), "without a tuple"},
      {document("}}b"), "something that is not an object"},
      {document("h\x05"), "never stored"},
      {document("j\xff\xff\xff\xff"), "never stored"},
      {document("X\xff\xff\xff\xff"
                "abc"),
       "ends at byte"},
      {document(text("\xc0\xaf")), "not UTF-8"},
      {document(text("\xed\xa0\x80")), "not UTF-8"},
      {document(text("\xf4\x90\x80\x80")), "not UTF-8"},
      {document(text("\xc3")), "not UTF-8"},
      {document("\x8a\x09" + repeat("\x01", 9)), "more than 64 bits"},
      {document("\x8a\xff"), "ends at byte"},
      {document("cmodule"), "ends at byte"},
      {document("c" + repeat("m", 5000)), "an unterminated name"},
      {document(repeat(mark, 1'000'000)), "nested too deeply"},
      {document(repeat("]", 2'000'000)), "more than a million values"},
      {document(repeat("N0", 10)), "opcode 0x30"},
  };
  for (const auto& c : cases) {
    const std::string e = parse_error(c.whole);
    INFO(e << " for " << c.message);
    CHECK(contains(e, c.message));
    CHECK(e.starts_with("x.pt: "));
    CHECK(e.size() < 300);
  }
  CHECK(contains(parse_error(std::string(17 << 20, 'N')), "too large"));
}

TEST_CASE("cycles, deep nesting and shared containers take no more memory than their bytes") {
  // A list that holds itself, twice over.
  const Pickle cycle =
      parse(document("]q\x01h\x01"
                     "ah\x01"
                     "a"));
  CHECK(&cycle[cycle.root().items[0]] == &cycle.root());
  // A list in a list in a list ... without a mark.
  const size_t depth = 500'000;
  const Pickle deep = parse(document(repeat("]", depth) + repeat("a", depth - 1)));
  CHECK(deep.root().items.size() == 1);
  // Each list holds the one before ten times: 10^60 elements if it were copied.
  std::string bomb = "]q" + number(0, 1);
  for (uint64_t i = 1; i <= 60; ++i)
    bomb += "(" + repeat("h" + number(i - 1, 1), 10) + "tq" + number(i, 1) + "\x86";
  CHECK(parse_error(document(bomb)) == "no error");
}
