// SPDX-License-Identifier: Apache-2.0
// Pickles as inert values. Reading one builds a tree of numbers, strings and containers. Where
// Python would import a name or call it, the tree holds the name and the arguments. Nothing is
// resolved and nothing is executed.
//
// Opcodes: protocol 2 as torch.save writes it (Python's pickletools lists them); any other, and any
// global name that the caller does not list, is refused by name.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sextant {

// Values refer to each other by index, so a list may contain itself and a tree of any depth is
// freed without recursion. Code that walks it must bound its steps.
using PickleRef = uint32_t;

struct PickleValue {
  enum class Kind {
    kNone,
    kBool,
    kInt,
    kFloat,
    kString,
    kTuple,
    kList,
    kDict,
    kGlobal,      // a name
    kObject,      // a call of a name, with the items that were added to the result
    kPersistent,  // a reference to something outside the pickle
  };
  Kind kind = Kind::kNone;
  int64_t integer = 0;  // kBool, kInt
  double real = 0;      // kFloat
  std::string text;     // kString, in UTF-8; kGlobal: "module.name"
  // kTuple, kList: the elements. kDict, kObject: key, value, key, value, ...
  std::vector<PickleRef> items;
  PickleRef callee = 0;     // kObject: the kGlobal
  PickleRef arguments = 0;  // kObject: a kTuple; kPersistent: the identification
  PickleRef state = 0;      // kObject: what BUILD gave it; 0 (a kNone) if nothing
};

// The global names a pickle may hold: whole names, and prefixes of dotted identifiers.
struct PickleNames {
  std::vector<std::string> names;
  std::vector<std::string> prefixes;
  bool allow(std::string_view name) const;
};

class Pickle {
 public:
  const PickleValue& operator[](PickleRef i) const { return values_[i]; }
  const PickleValue& root() const { return values_[root_]; }
  // True for a call of `name`.
  bool is_call(const PickleValue& v, std::string_view name) const;
  // Keys and values of a dict or a collections.OrderedDict, in order; nullptr for anything else.
  const std::vector<PickleRef>* pairs(const PickleValue& v) const;
  // The last value under a string key of such a dict; nullptr when there is none.
  const PickleValue* find(const PickleValue& dict, std::string_view key) const;

 private:
  friend Pickle parse_pickle(std::span<const uint8_t>, std::string_view, const PickleNames&);
  std::deque<PickleValue> values_;  // [0] is None
  PickleRef root_ = 0;
};

// `where` starts each message. Throws Error for anything that is not a pickle of the allowed kind,
// and at 16 MiB, a million values or a thousand open containers, far above any checkpoint. Time and
// memory grow only with the size of the input.
Pickle parse_pickle(std::span<const uint8_t> bytes, std::string_view where,
                    const PickleNames& names);

}  // namespace sextant
