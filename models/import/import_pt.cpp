// SPDX-License-Identifier: Apache-2.0
#include "models/import/import_pt.h"

#include <algorithm>
#include <set>

#include "core/convert.h"
#include "core/file.h"
#include "core/json.h"
#include "core/text.h"
#include "models/import/torch_file.h"

namespace sextant {
namespace {

using Kind = PickleValue::Kind;

// What the files hold besides tensors: modules, and NumPy's numbers for the metrics.
PickleNames allowed_names() {
  return {{"__builtin__.set", "builtins.set", "_codecs.encode", "numpy.dtype",
           "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"},
          {"torch.nn.modules.", "yolov6.models.", "yolov6.layers."}};
}

// More than any model needs. They bound the walk through a file that shares modules to appear
// large.
constexpr int kMaxDepth = 32;
constexpr size_t kMaxTensors = 20000;
constexpr size_t kMaxSteps = 2'000'000;
constexpr size_t kMaxTensorName = 256;

class Collector {
 public:
  Collector(TorchFile& file, ImportedWeights& out) : file_(file), p_(file.pickle()), out_(out) {}

  // Parameters, buffers and children of a module, in the order of state_dict().
  void module(const PickleValue& m, const std::string& prefix, int depth) {
    check(m.kind == Kind::kObject && depth < kMaxDepth,
          "{}: '{}' is not a module, or nested too deep", file_.path(), prefix);
    if (prefix == "backbone.stem.") out_.block = p_[m.callee].text;
    const PickleValue& state = p_[m.state];
    const PickleValue* transient = member(state, "_non_persistent_buffers_set");
    for (const char* section : {"_parameters", "_buffers"})
      for_each(member(state, section), prefix, [&](const std::string& name, const PickleValue& v) {
        if (section[1] == 'p' || !is_in_set(transient, name)) tensor(prefix + name, v);
      });
    for_each(member(state, "_modules"), prefix, [&](const std::string& name, const PickleValue& v) {
      module(v, prefix + name + ".", depth + 1);
    });
  }

  void state_dict(const PickleValue& dict) {
    for_each(&dict, "", [&](const std::string& name, const PickleValue& v) { tensor(name, v); });
  }

  // The class names a model carries; a list of strings.
  void class_names(const PickleValue& m) {
    const PickleValue* names = member(p_[m.state], "names");
    if (!names || names->kind != Kind::kList) return;
    for (const PickleRef i : names->items) {
      step(1);
      const PickleValue& name = p_[i];
      const bool plain =
          std::ranges::none_of(name.text, [](unsigned char ch) { return ch < ' ' || ch == 0x7f; });
      check(name.kind == Kind::kString && name.text.size() <= kMaxTensorName && plain,
            "{}: 'names' of the model holds something that is not a class name", file_.path());
      out_.class_names.push_back(name.text);
    }
  }

  const PickleValue* member(const PickleValue& dict, std::string_view key) {
    if (const auto* pairs = p_.pairs(dict)) step(pairs->size());
    const PickleValue* v = p_.find(dict, key);
    return v && v->kind != Kind::kNone ? v : nullptr;
  }

 private:
  void step(size_t n) {
    steps_ += n;
    check(steps_ <= kMaxSteps, "{}: holds more than any model does", file_.path());
  }

  // Calls f(name, value) for what is not None under a dict.
  template <class F>
  void for_each(const PickleValue* dict, const std::string& prefix, F f) {
    if (!dict) return;
    const auto* pairs = p_.pairs(*dict);
    check(pairs != nullptr, "{}: the members of '{}' are not a dict", file_.path(), prefix);
    step(pairs->size());
    for (size_t i = 0; i + 1 < pairs->size(); i += 2) {
      const PickleValue &key = p_[(*pairs)[i]], &value = p_[(*pairs)[i + 1]];
      if (value.kind == Kind::kNone) continue;
      step(1);
      const bool plain = std::ranges::all_of(key.text, [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '_' || c == '.' || c == '-';
      });
      check(key.kind == Kind::kString && plain && !key.text.empty() &&
                prefix.size() + key.text.size() <= kMaxTensorName,
            "{}: '{}' has a member with the name '{}'", file_.path(), prefix, excerpt(key.text));
      f(key.text, value);
    }
  }

  bool is_in_set(const PickleValue* set, const std::string& name) {
    if (!set || set->kind != Kind::kObject || p_[set->arguments].items.empty()) return false;
    const PickleValue& list = p_[p_[set->arguments].items[0]];
    step(list.items.size());
    return std::ranges::any_of(list.items, [&](PickleRef i) { return p_[i].text == name; });
  }

  void tensor(const std::string& name, const PickleValue& v) {
    check(file_.is_tensor(v), "{}: '{}' is not a tensor", file_.path(), name);
    check(seen_.insert(name).second, "{}: duplicate tensor '{}'", file_.path(), name);
    check(seen_.size() <= kMaxTensors, "{}: holds more tensors than any model", file_.path());
    out_.state.add(name, to_f32(file_.tensor(v, name)));
  }

  TorchFile& file_;
  const Pickle& p_;
  ImportedWeights& out_;
  std::set<std::string> seen_;
  size_t steps_ = 0;
};

}  // namespace

ImportedWeights import_torch(std::vector<uint8_t> bytes, const std::string& path) {
  TorchFile file(std::move(bytes), path, allowed_names());
  ImportedWeights out;
  out.state.path = file.path();
  Collector collect(file, out);
  const PickleValue& root = file.pickle().root();
  const PickleValue* model = nullptr;
  for (const char* key : {"ema", "model", "state_dict"})
    if (!model) model = collect.member(root, key);
  if (const PickleValue* epoch = collect.member(root, "epoch"); epoch && epoch->kind == Kind::kInt)
    out.epoch = epoch->integer;
  if (!model) model = &root;
  if (file.pickle().pairs(*model)) {
    collect.state_dict(*model);
  } else {
    collect.module(*model, "", 0);
    collect.class_names(*model);
  }
  check(!out.state.tensors.empty(), "{}: holds no tensors", file.path());
  return out;
}

namespace {

ImportedWeights import_safetensors(const std::filesystem::path& path) {
  const SafeTensors file = load_safetensors(path);
  ImportedWeights out;
  out.state.path = file.path;
  for (const auto& [name, t] : file.tensors) out.state.add(name, to_f32(t));
  if (const auto names = file.metadata.find("class_names"); names != file.metadata.end()) {
    const Json list = parse_json(names->second, file.path + ": 'class_names'");
    check(list.is_array(), "{}: 'class_names' in its metadata is not a list", file.path);
    for (const Json& name : list) {
      check(name.is_string(), "{}: 'class_names' in its metadata holds {}, must be strings",
            file.path, short_json(name));
      out.class_names.push_back(name.get<std::string>());
    }
  }
  return out;
}

}  // namespace

ImportedWeights import_weights(const std::filesystem::path& path) {
  return path.extension() == ".safetensors" ? import_safetensors(path)
                                            : import_torch(read_bytes(path), path.string());
}

}  // namespace sextant
