// A node's attributes as JSON: in deploy files, in the metadata of ONNX models, in traces.
#pragma once

#include <map>
#include <string>

#include "core/config.h"
#include "deploy/graph/node_rules.h"

namespace sextant::deploy {

// Takes attributes from a config. Throws Error naming the file and the key of one that is missing
// or of another type; bounds are for check_attributes(). `partial`: any may be missing.
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

// Each attribute as JSON, for those who write them down, and whether it is its kind's default.
class AttributeValues : public AttributeVisitor {
 public:
  explicit AttributeValues(NodeKind kind);
  void attribute(const Key& key, AttributeField field, Bounds bounds) override;

 protected:
  virtual void value(const Key& key, const Json& value, bool is_default) = 0;

 private:
  std::map<std::string, Json> defaults_;
};

// Puts attributes of one kind into an object, behind what it holds.
class AttributeWriter : public AttributeValues {
 public:
  AttributeWriter(Json& to, NodeKind kind) : AttributeValues(kind), to_(to) {}

 protected:
  void value(const Key& key, const Json& value, bool is_default) override;
  Json& to_;
};

}  // namespace sextant::deploy
