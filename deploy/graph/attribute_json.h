// SPDX-License-Identifier: Apache-2.0
// A node's attributes as JSON: in deploy files, in the metadata of ONNX models, in traces.
#pragma once

#include <map>
#include <string>

#include "core/config.h"
#include "deploy/graph/node_rules.h"

namespace sextant::deploy {

// Reads attributes from a config. Throws Error naming the file and key of an attribute that is
// missing or of the wrong type; check_attributes() checks bounds. `partial`: any may be missing.
class AttributeReader : public AttributeVisitor {
 public:
  explicit AttributeReader(ConfigReader& from, bool partial = false)
      : from_(from), partial_(partial) {}
  void attribute(const Key& key, AttributeField field, Bounds bounds) override;

 protected:
  ConfigReader& from_;

 private:
  bool partial_;
};

// Visits each attribute as JSON, and whether it has its kind's default value.
class AttributeValues : public AttributeVisitor {
 public:
  explicit AttributeValues(NodeKind kind);
  void attribute(const Key& key, AttributeField field, Bounds bounds) override;

 protected:
  virtual void value(const Key& key, const Json& value, bool is_default) = 0;

 private:
  std::map<std::string, Json> defaults_;
};

// Appends the attributes of one kind to a JSON object.
class AttributeWriter : public AttributeValues {
 public:
  AttributeWriter(Json& to, NodeKind kind) : AttributeValues(kind), to_(to) {}

 protected:
  void value(const Key& key, const Json& value, bool is_default) override;
  Json& to_;
};

}  // namespace sextant::deploy
