// SPDX-License-Identifier: Apache-2.0
#include "models/import/pickle.h"

#include <algorithm>
#include <bit>
#include <unordered_map>

#include "core/text.h"
#include "models/import/byte_reader.h"

namespace sextant {

bool PickleNames::allow(std::string_view name) const {
  if (std::ranges::find(names, name) != names.end()) return true;
  const auto identifier = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.';
  };
  return std::ranges::all_of(name, identifier) &&
         std::ranges::any_of(prefixes, [&](const std::string& p) { return name.starts_with(p); });
}

bool Pickle::is_call(const PickleValue& v, std::string_view name) const {
  return v.kind == PickleValue::Kind::kObject && values_[v.callee].text == name;
}

const std::vector<PickleRef>* Pickle::pairs(const PickleValue& v) const {
  const bool ordered = is_call(v, "collections.OrderedDict") && values_[v.arguments].items.empty();
  return ordered || v.kind == PickleValue::Kind::kDict ? &v.items : nullptr;
}

const PickleValue* Pickle::find(const PickleValue& dict, std::string_view key) const {
  const PickleValue* found = nullptr;
  if (const auto* p = pairs(dict))
    for (size_t i = 0; i + 1 < p->size(); i += 2)
      if (const PickleValue& k = values_[(*p)[i]];
          k.kind == PickleValue::Kind::kString && k.text == key)
        found = &values_[(*p)[i + 1]];
  return found;
}

namespace {

using Kind = PickleValue::Kind;

constexpr size_t kMaxBytes = size_t{16} << 20;
constexpr size_t kMaxValues = size_t{1} << 20;
constexpr size_t kMaxOpen = 1000;
constexpr size_t kMaxName = 200;

// Opcodes of protocol 2, by the names pickletools gives them.
enum Op : uint8_t {
  kMark = '(',
  kStop = '.',
  kBinInt = 'J',
  kBinInt1 = 'K',
  kBinInt2 = 'M',
  kNone = 'N',
  kBinPersId = 'Q',
  kReduce = 'R',
  kBinUnicode = 'X',
  kAppend = 'a',
  kBuild = 'b',
  kGlobal = 'c',
  kAppends = 'e',
  kBinGet = 'h',
  kLongBinGet = 'j',
  kBinPut = 'q',
  kLongBinPut = 'r',
  kSetItem = 's',
  kTuple = 't',
  kSetItems = 'u',
  kEmptyDict = '}',
  kEmptyList = ']',
  kEmptyTuple = ')',
  kBinFloat = 'G',
  kProto = 0x80,
  kNewObj = 0x81,
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kNewTrue = 0x88,
  kNewFalse = 0x89,
  kLong1 = 0x8a,
};

// RFC 3629, section 4; no surrogates, nothing overlong.
bool is_utf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto byte = [&](size_t k) {
      return i + k < text.size() ? static_cast<uint8_t>(text[i + k]) : uint8_t{0};
    };
    const uint8_t lead = byte(0);
    const size_t more = lead < 0x80 ? 0 : lead < 0xc2 ? 9 : lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
    if (more == 9 || lead > 0xf4) return false;
    for (size_t k = 1; k <= more; ++k)
      if ((byte(k) & 0xc0) != 0x80) return false;
    if ((lead == 0xe0 && byte(1) < 0xa0) || (lead == 0xed && byte(1) > 0x9f) ||
        (lead == 0xf0 && byte(1) < 0x90) || (lead == 0xf4 && byte(1) > 0x8f))
      return false;
    i += more + 1;
  }
  return true;
}

class Parser {
 public:
  Parser(std::span<const uint8_t> bytes, std::string_view where, const PickleNames& names,
         std::deque<PickleValue>& values)
      : in_(bytes, where), where_(where), names_(names), values_(values) {
    check(bytes.size() <= kMaxBytes, "{}: a pickle of {} bytes is too large for a checkpoint",
          where, bytes.size());
    values_.emplace_back();
  }

  PickleRef parse() {
    for (;;) {
      const uint8_t op = in_.number<uint8_t>();
      if (op == kStop) break;
      step(op);
    }
    require(stack_.size() == 1 && marks_.empty() && in_.left() == 0, "does not end with one value");
    return stack_.back();
  }

 private:
  // The position is that of the byte after the offending one.
  void require(bool condition, const char* what) const {
    check(condition, "{}: is not a valid pickle: at byte {}: {}", where_, in_.position(), what);
  }

  PickleRef add(Kind kind) {
    require(values_.size() < kMaxValues, "more than a million values");
    values_.emplace_back().kind = kind;
    return static_cast<PickleRef>(values_.size() - 1);
  }
  void push(PickleRef v) { stack_.push_back(v); }
  PickleValue& push_new(Kind kind) {
    push(add(kind));
    return values_.back();
  }
  void push_int(int64_t v, Kind kind = Kind::kInt) { push_new(kind).integer = v; }

  // A pop cannot reach below the last mark.
  size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }
  PickleRef pop() {
    require(stack_.size() > floor(), "nothing left on the stack");
    const PickleRef v = stack_.back();
    stack_.pop_back();
    return v;
  }
  PickleValue& top() {
    require(stack_.size() > floor(), "nothing left on the stack");
    return values_[stack_.back()];
  }
  std::vector<PickleRef> pop_to_mark() {
    require(!marks_.empty(), "no mark on the stack");
    const auto begin = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
    std::vector<PickleRef> out(begin, stack_.end());
    stack_.erase(begin, stack_.end());
    marks_.pop_back();
    return out;
  }

  void push_tuple(size_t n) {
    std::vector<PickleRef> items(n);
    for (size_t i = n; i-- > 0;) items[i] = pop();
    push_new(Kind::kTuple).items = std::move(items);
  }
  void append(const std::vector<PickleRef>& items, bool pairs) {
    PickleValue& to = top();
    if (pairs)
      require((to.kind == Kind::kDict || to.kind == Kind::kObject) && items.size() % 2 == 0,
              "an item set on something that is not a dict");
    else
      require(to.kind == Kind::kList, "an item appended to something that is not a list");
    to.items.insert(to.items.end(), items.begin(), items.end());
  }

  void global();
  void call();
  void build();
  void get(PickleRef key) {
    const auto it = memo_.find(key);
    require(it != memo_.end(), "a request for a value that was never stored");
    push(it->second);
  }
  void put(PickleRef key) {
    top();
    memo_[key] = stack_.back();
  }
  void step(uint8_t op);

  ByteReader in_;
  std::string_view where_;
  const PickleNames& names_;
  std::deque<PickleValue>& values_;
  std::vector<PickleRef> stack_;
  std::vector<size_t> marks_;
  std::unordered_map<PickleRef, PickleRef> memo_;
  bool started_ = false;
};

void Parser::global() {
  std::string name;
  for (const char end_of_part : {'.', '\0'}) {
    for (char c; (c = static_cast<char>(in_.number<uint8_t>())) != '\n'; name += c)
      require(name.size() < kMaxName, "an unterminated name");
    if (end_of_part) name += end_of_part;
  }
  check(names_.allow(name), "{}: names '{}', which a checkpoint does not hold; nothing was run",
        where_, excerpt(name));
  push_new(Kind::kGlobal).text = std::move(name);
}

void Parser::call() {
  const PickleRef arguments = pop(), callee = pop();
  require(values_[callee].kind == Kind::kGlobal && values_[arguments].kind == Kind::kTuple,
          "a call of something that is not a name, or without a tuple of arguments");
  PickleValue& v = push_new(Kind::kObject);
  v.callee = callee;
  v.arguments = arguments;
}

void Parser::build() {
  const PickleRef state = pop();
  PickleValue& v = top();
  require(v.kind == Kind::kObject && v.state == 0,
          "a state for something that is not an object, or already has one");
  v.state = state;
}

void Parser::step(uint8_t op) {
  require(started_ != (op == kProto), started_ ? "a second protocol" : "no protocol");
  switch (op) {
    case kProto: {
      const int protocol = in_.number<uint8_t>();
      check(protocol == 2, "{}: is a pickle of protocol {}; torch.save writes 2", where_, protocol);
      started_ = true;
      return;
    }
    case kMark:
      require(marks_.size() < kMaxOpen, "nested too deeply");
      return marks_.push_back(stack_.size());
    case kNone:
      return push(add(Kind::kNone));
    case kNewTrue:
    case kNewFalse:
      return push_int(op == kNewTrue, Kind::kBool);
    case kBinInt:
      return push_int(in_.number<int32_t>());
    case kBinInt1:
      return push_int(in_.number<uint8_t>());
    case kBinInt2:
      return push_int(in_.number<uint16_t>());
    case kLong1: {  // two's complement, little-endian, of any length
      const auto raw = in_.take(in_.number<uint8_t>());
      require(raw.size() <= 8, "an integer of more than 64 bits");
      uint64_t v = !raw.empty() && raw.back() & 0x80 ? ~uint64_t{0} : 0;
      for (size_t i = raw.size(); i-- > 0;) v = v << 8 | raw[i];
      return push_int(static_cast<int64_t>(v));
    }
    case kBinFloat: {
      uint64_t v = 0;  // big-endian
      for (const uint8_t b : in_.take(8)) v = v << 8 | b;
      push_new(Kind::kFloat).real = std::bit_cast<double>(v);
      return;
    }
    case kBinUnicode: {
      const std::string_view text = in_.text(in_.number<uint32_t>());
      require(is_utf8(text), "a string that is not UTF-8");
      push_new(Kind::kString).text = text;
      return;
    }
    case kEmptyTuple:
      return push(add(Kind::kTuple));
    case kEmptyList:
      return push(add(Kind::kList));
    case kEmptyDict:
      return push(add(Kind::kDict));
    case kTuple1:
    case kTuple2:
    case kTuple3:
      return push_tuple(static_cast<size_t>(op - kTuple1) + 1);
    case kTuple: {
      auto items = pop_to_mark();
      push_new(Kind::kTuple).items = std::move(items);
      return;
    }
    case kAppend:
      return append({pop()}, false);
    case kAppends:
      return append(pop_to_mark(), false);
    case kSetItem: {
      const PickleRef value = pop(), key = pop();
      return append({key, value}, true);
    }
    case kSetItems:
      return append(pop_to_mark(), true);
    case kGlobal:
      return global();
    case kReduce:
    case kNewObj:
      return call();
    case kBuild:
      return build();
    case kBinPersId: {
      const PickleRef id = pop();
      push_new(Kind::kPersistent).arguments = id;
      return;
    }
    case kBinGet:
      return get(in_.number<uint8_t>());
    case kLongBinGet:
      return get(in_.number<uint32_t>());
    case kBinPut:
      return put(in_.number<uint8_t>());
    case kLongBinPut:
      return put(in_.number<uint32_t>());
    default:
      fail("{}: has the pickle opcode {:#04x} at byte {}, which torch.save does not write", where_,
           op, in_.position() - 1);
  }
}

}  // namespace

Pickle parse_pickle(std::span<const uint8_t> bytes, std::string_view where,
                    const PickleNames& names) {
  Pickle out;
  out.root_ = Parser(bytes, where, names, out.values_).parse();
  return out;
}

}  // namespace sextant
