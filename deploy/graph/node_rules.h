// SPDX-License-Identifier: Apache-2.0
// The rules for each kind of node, one row per kind. Code that walks a graph looks them up here
// instead of listing kinds: shapes and validation, the deploy file, `info`, tracing, ranges,
// calibration, equalization, the integer mode.
#pragma once

#include <algorithm>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "deploy/graph/graph.h"
#include "layers/module.h"

namespace sextant::deploy {

inline constexpr int64_t kMaxChannels = 1 << 16;  // of any tensor

// ---- attributes, key by key

// How visitors see an attribute.
struct Key {
  const char* name;  // in files, in traces and in messages
  // How `info` shows it behind the kind's name, with {} for the value; "": not shown.
  const char* shown = "";
  bool shown_always = false;  // otherwise only if it is not the default
  // How files and traces store it.
  enum class Stored {
    kAlways,         // required
    kOptional,       // always written, optional when read
    kUnlessDefault,  // omitted if it is the default
  } stored = Stored::kAlways;
};

// A pointer to an attribute's field. Strings are names of enum values.
using AttributeField = std::variant<int64_t*, float*, bool*, std::string*, std::vector<int64_t>*>;

// Bounds of a number, or of each number in a list; both ends included.
struct Bounds {
  double low = std::numeric_limits<float>::lowest();
  double high = std::numeric_limits<float>::max();
};

// Reads, writes, checks or shows the attributes of a node. Each kind's are listed once, in
// node_rules.cpp.
class AttributeVisitor {
 public:
  virtual ~AttributeVisitor() = default;
  virtual void attribute(const Key& key, AttributeField field, Bounds bounds = {}) = 0;
  // Text that only `info` shows.
  virtual void note(const char* /*text*/) {}
  // The place where a file describes how the node's weight is stored.
  virtual void weight() {}
};

void visit_attributes(Attributes& attributes, AttributeVisitor& visitor);
// For a visitor that changes nothing.
void visit_attributes(const Attributes& attributes, AttributeVisitor& visitor);

// ---- the table

// How the range of a node's output is determined.
enum class RangeRule {
  kGiven,   // the image: exact, no calibration
  kMakes,   // new values with a range of their own
  kShares,  // new values that share the range of its inputs
  kPasses,  // values copied from its inputs, in their range
  kFloat    // neither its output nor its inputs are ever quantized
};

// What the fully integer mode needs to run a node.
enum class IntegerRule {
  kRanges,  // ranges on all its inputs and its output
  kMoves,   // inputs and output of one representation: it only moves values
  kReads    // nothing: it reads 8-bit integers or head outputs
};

// The arguments of a shape rule.
struct ShapeQuery {
  const Node& node;
  const std::vector<Shape>& inputs;
  const Shape& image;  // shape of the graph's input
};

// Channels of a node's output that equal channels of an input up to operations that commute with a
// positive factor.
struct ChannelLink {
  size_t input = 0;
  int64_t begin = 0;         // of the input
  int64_t output_begin = 0;  // of the output
  int64_t count = 0;
};
using ChannelLinks = std::vector<ChannelLink>;

inline constexpr int kAnyNumber = -1;  // any number of inputs, at least one

struct NodeRules {
  NodeKind kind;
  int inputs = 1;  // without a residual
  // Its operation in core/trace.h; "": none.
  std::string_view traced_as = "";
  bool only_traced = false;  // fuse() folds it; engines and files never contain it
  // The layout of its weight; kinds with a weight run in int8 if they have weight scales.
  std::optional<Layout> weight = {};
  RangeRule range = RangeRule::kMakes;
  IntegerRule integer = IntegerRule::kRanges;
  // Whether its output cannot be negative; `inputs` holds the same for each input.
  bool (*never_negative)(const Node&, const std::vector<bool>& inputs);
  // The shape of its output from those of its inputs, all of rank 4. Throws Error saying what does
  // not fit; the caller prefixes graph, node and kind.
  Shape (*shape)(const ShapeQuery&);
  // Null if no output channel comes from an input. `channels` are the inputs' channel counts.
  ChannelLinks (*channels)(const Node&, const std::vector<int64_t>& channels) = nullptr;
};

const NodeRules& rules_of(NodeKind kind);
inline const NodeRules& rules_of(const Node& node) { return rules_of(node.kind()); }

// The kind of a traced operation, if any.
std::optional<NodeKind> kind_traced_as(std::string_view operation);

// The row for `kind` in another table whose rows have a member `kind`; null if it has none.
template <class Table>
auto* row_of(const Table& table, NodeKind kind) {
  const auto found = std::ranges::find_if(table, [&](const auto& row) { return row.kind == kind; });
  return found == std::ranges::end(table) ? nullptr : &*found;
}

}  // namespace sextant::deploy
