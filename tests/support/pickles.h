// SPDX-License-Identifier: Apache-2.0
// Pickles and files of torch.save written byte by byte, valid and hostile.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "models/import/zip.h"

namespace sextant::test::pickles {

inline std::string number(uint64_t v, int bytes) {
  std::string out;
  for (int i = 0; i < bytes; ++i) out += static_cast<char>(v >> (8 * i));
  return out;
}

// Opcodes that push one value.
inline std::string text(std::string_view t) { return "X" + number(t.size(), 4) + std::string(t); }
inline std::string integer(int64_t v) { return "\x8a\x08" + number(static_cast<uint64_t>(v), 8); }
inline std::string global(const std::string& module, const std::string& name) {
  return "c" + module + "\n" + name + "\n";
}
inline std::string tuple(const std::vector<std::string>& items) {
  std::string out = "(";
  for (const auto& i : items) out += i;
  return out + "t";
}
inline std::string integers(const std::vector<int64_t>& values) {
  std::vector<std::string> items;
  for (const int64_t v : values) items.push_back(integer(v));
  return tuple(items);
}
using Pairs = std::vector<std::pair<std::string, std::string>>;  // key, pickled value
inline std::string set_items(const Pairs& pairs) {
  std::string out = "(";
  for (const auto& [k, v] : pairs) out += text(k) + v;
  return out + "u";
}
inline std::string dict(const Pairs& pairs) { return "}" + set_items(pairs); }
inline std::string ordered_dict(const Pairs& pairs = {}) {
  return global("collections", "OrderedDict") + ")R" + set_items(pairs);
}
struct TensorPickle {
  std::string storage = "FloatStorage", key = "0";
  int64_t count = 0, offset = 0;
  std::vector<int64_t> size = {}, stride = {};
};
inline std::string tensor(const TensorPickle& t) {
  return global("torch._utils", "_rebuild_tensor_v2") +
         tuple({tuple({text("storage"), global("torch", t.storage), text(t.key), text("cpu"),
                       integer(t.count)}) +
                    "Q",
                integer(t.offset), integers(t.size), integers(t.stride), "\x89", ordered_dict()}) +
         "R";
}
inline std::string parameter(const TensorPickle& t) {
  return global("torch._utils", "_rebuild_parameter") + tuple({tensor(t), "\x88", ordered_dict()}) +
         "R";
}
// An nn.Module: its class, and what its __dict__ holds beside the three sections.
struct ModulePickle {
  std::string module, name;
  Pairs parameters, buffers, modules, rest;
};
inline std::string module(const ModulePickle& m) {
  Pairs state{{"training", "\x89"},
              {"_parameters", ordered_dict(m.parameters)},
              {"_buffers", ordered_dict(m.buffers)},
              {"_modules", ordered_dict(m.modules)}};
  state.insert(state.end(), m.rest.begin(), m.rest.end());
  return global(m.module, m.name) + ")\x81" + dict(state) + "b";
}
inline std::string document(const std::string& value) { return "\x80\x02" + value + "."; }

inline std::span<const uint8_t> bytes(std::string_view t) {
  return {reinterpret_cast<const uint8_t*>(t.data()), t.size()};
}
inline std::vector<uint8_t> file(const std::string& pickle,
                                 const std::vector<std::string>& storages) {
  std::vector<ZipItem> items{{"archive/data.pkl", bytes(pickle)}};
  for (size_t i = 0; i < storages.size(); ++i)
    items.push_back({"archive/data/" + std::to_string(i), bytes(storages[i])});
  items.push_back({"archive/version", bytes("3\n")});
  return make_zip(items);
}

}  // namespace sextant::test::pickles
