// SPDX-License-Identifier: Apache-2.0
#include "quant/ranges/range_file.h"

#include <cmath>
#include <map>

#include "deploy/graph/ranges.h"

namespace sextant::quant {
namespace {

struct Wanted {
  std::string tensor;  // the tensor whose entry gave it
  float amax = 0.0f;
};

const deploy::TensorInfo& find(const deploy::Graph& graph, const std::string& name,
                               const std::string& where) {
  const int t = graph.find_tensor(name);
  if (t < 0) {
    std::vector<std::string> names;
    for (const deploy::TensorInfo& info : graph.tensors) names.push_back(info.name);
    fail("{}: no tensor '{}'; nearest is '{}'", where, name, nearest_name(name, names));
  }
  return graph.tensors[static_cast<size_t>(t)];
}

float amax_of(const Json& entry, const deploy::TensorInfo& info, const std::string& where) {
  Json amax = entry;
  if (entry.is_object()) {
    ConfigReader r(entry, where, "tensors." + info.name + ".");
    int64_t group = info.group;
    bool is_unsigned = info.is_unsigned;
    r.require("amax", amax);
    r.get("group", group);
    r.get("unsigned", is_unsigned);
    r.finish();
    check(group == info.group && is_unsigned == info.is_unsigned,
          "{}: tensor '{}' has group {} and is {}; only amax can be edited", where, info.name,
          info.group, info.is_unsigned ? "unsigned" : "signed");
  }
  float value = 0;
  check(amax.is_number(), "{}: amax of tensor '{}' must be a number, not {}", where, info.name,
        short_json(amax));
  check(read_value(amax, value) && value > deploy::kTinyAmax && value < 1e30f,
        "{}: amax of tensor '{}' is {}, must be positive and finite", where, info.name,
        short_json(amax));
  return value;
}

}  // namespace

Json ranges_to_json(const deploy::Graph& graph) {
  Json tensors = Json::object();
  for (const deploy::TensorInfo& info : graph.tensors)
    if (info.has_range())
      tensors[info.name] = {
          {"group", info.group}, {"unsigned", info.is_unsigned}, {"amax", info.amax}};
  return {{"tensors", tensors}};
}

int64_t apply_ranges(deploy::Graph& graph, const Json& json, const std::string& where) {
  check(json.is_object() && json.contains("tensors") && json.at("tensors").is_object(),
        "{}: needs an object 'tensors'", where);
  ConfigReader top(json, where);
  Json tensors;
  top.require("tensors", tensors);
  top.finish();
  const deploy::TensorInfo& image = graph.tensors[static_cast<size_t>(graph.input)];
  std::map<int, Wanted> wanted;  // by group
  for (const auto& [name, entry] : tensors.items()) {
    const deploy::TensorInfo& info = find(graph, name, where);
    check(info.has_range(), "{}: tensor '{}' is in float and has no range", where, name);
    const float amax = amax_of(entry, info, where);
    check(info.group != image.group || amax == image.amax,
          "{}: the range of '{}', the image, is fixed at {}", where, name, image.amax);
    const auto [at, fresh] = wanted.emplace(info.group, Wanted{name, amax});
    check(fresh || at->second.amax == amax,
          "{}: tensors '{}' and '{}' share one range (group {}), but their amax are {} and {}",
          where, at->second.tensor, name, info.group, at->second.amax, amax);
  }
  int64_t changed = 0;
  for (deploy::TensorInfo& info : graph.tensors) {
    const auto at = wanted.find(info.group);
    if (at == wanted.end() || !info.has_range()) continue;
    changed += info.amax != at->second.amax;
    info.amax = at->second.amax;
  }
  return changed;
}

}  // namespace sextant::quant
