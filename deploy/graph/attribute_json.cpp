// SPDX-License-Identifier: Apache-2.0
#include "deploy/graph/attribute_json.h"

namespace sextant::deploy {
namespace {

// The JSON library would convert 1.5 and 1e300 to integers silently.
void check_integers(const std::string& where, const Key& key, const Json& json) {
  for (const Json& v : json)  // a number iterates over itself
    check(v.is_number_integer(), "{}: '{}' must be an integer, not {}", where, key.name,
          short_json(v));
}

Json to_json(AttributeField field) {
  return std::visit([](const auto* value) { return Json(*value); }, field);
}

}  // namespace

void AttributeReader::attribute(const Key& key, AttributeField field, Bounds) {
  const bool integers = std::holds_alternative<int64_t*>(field) ||
                        std::holds_alternative<std::vector<int64_t>*>(field);
  if (integers && from_.has(key.name))
    check_integers(from_.where(), key, from_.json().at(key.name));
  std::visit(
      [&](auto* value) {
        if (key.stored == Key::Stored::kAlways && !partial_)
          from_.require(key.name, *value);
        else
          from_.get(key.name, *value);
      },
      field);
}

AttributeValues::AttributeValues(NodeKind kind) {
  struct Collector : AttributeVisitor {
    void attribute(const Key& key, AttributeField field, Bounds) override {
      values[key.name] = to_json(field);
    }
    std::map<std::string, Json> values;
  } collector;
  visit_attributes(default_attributes(kind), collector);
  defaults_ = std::move(collector.values);
}

void AttributeValues::attribute(const Key& key, AttributeField field, Bounds) {
  const Json json = to_json(field);
  value(key, json, json == defaults_.at(key.name));
}

void AttributeWriter::value(const Key& key, const Json& v, bool is_default) {
  if (key.stored != Key::Stored::kUnlessDefault || !is_default) to_[key.name] = v;
}

}  // namespace sextant::deploy
