// What holds for all nodes of a kind, one row each. Whatever walks a graph asks here instead of
// listing kinds: shapes and validation, the deploy file, `info`, tracing, ranges, calibration,
// equalization, the integer mode.
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

// ---- attributes, key by key

// An attribute for those who visit it.
struct Key {
  const char* name;  // in files, in traces and in messages
  // By `info`, behind the kind's name, with {} for the value; "": not at all.
  const char* shown = "";
  bool shown_always = false;  // else unless it is the default
  // In a file or trace.
  enum class Stored {
    kAlways,         // has to be there
    kOptional,       // is written; may be missing
    kUnlessDefault,  // is left out where it is the default
  } stored = Stored::kAlways;
};

// The field of an attribute. Strings are the names of an enum's values.
using AttributeField = std::variant<int64_t*, float*, bool*, std::string*, std::vector<int64_t>*>;

// Of a number, or of each in a list; both ends included.
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
  // For `info` alone.
  virtual void note(const char* /*text*/) {}
  // Where a file says how the node's weight is stored.
  virtual void weight() {}
};

void visit_attributes(Attributes& attributes, AttributeVisitor& visitor);
// For a visitor that changes nothing.
void visit_attributes(const Attributes& attributes, AttributeVisitor& visitor);

// ---- the table

// How the range of a node's output comes about.
enum class RangeRule {
  kGiven,   // the image's: exact, nothing to calibrate
  kMakes,   // its values are new, the range is its own
  kShares,  // its values are new, in one range with its inputs
  kPasses,  // its values are some of its inputs', in one range with them
  kFloat    // never quantized, nor is what it reads
};

// What the fully integer mode needs to run a node.
enum class IntegerRule {
  kRanges,  // ranges of all that it reads and makes
  kMoves,   // nothing but that all are held alike: it moves numbers of any kind
  kReads    // nothing: it reads 8-bit integers and those of the head
};

// What a shape rule sees.
struct ShapeQuery {
  const Node& node;
  const std::vector<Shape>& inputs;
  const Shape& image;  // of the graph's input
};

// Channels of a node's output that are channels of an input, with nothing done to them that a
// factor would not pass through.
struct ChannelLink {
  size_t input = 0;
  int64_t begin = 0;         // of the input
  int64_t output_begin = 0;  // of the output
  int64_t count = 0;
};
using ChannelLinks = std::vector<ChannelLink>;

inline constexpr int kAnyNumber = -1;  // of inputs: at least one

struct NodeRules {
  NodeKind kind;
  int inputs = 1;  // without a residual
  // The operation of core/trace.h that it is; "": none.
  std::string_view traced_as = "";
  bool only_traced = false;  // fuse() folds it; engines and files do not have it
  // The layout of its weight; kinds with one run in int8 by weight scales.
  std::optional<Layout> weight = {};
  RangeRule range = RangeRule::kMakes;
  IntegerRule integer = IntegerRule::kRanges;
  // Whether its output cannot hold a negative number; `inputs` says the same of its inputs.
  bool (*never_negative)(const Node&, const std::vector<bool>& inputs);
  // The shape of its output from those of its inputs, all of rank 4. Throws Error saying what does
  // not fit; the caller puts graph, node and kind in front.
  Shape (*shape)(const ShapeQuery&);
  // Null: its channels are no others'. `channels` are those of the inputs.
  ChannelLinks (*channels)(const Node&, const std::vector<int64_t>& channels) = nullptr;
};

const NodeRules& rules_of(NodeKind kind);
inline const NodeRules& rules_of(const Node& node) { return rules_of(node.kind()); }

// The kind that an operation of a trace is; nothing where there is none.
std::optional<NodeKind> kind_traced_as(std::string_view operation);

// The row of another table about kinds, of rows with a member `kind`; null without one.
template <class Table>
auto* row_of(const Table& table, NodeKind kind) {
  const auto found = std::ranges::find_if(table, [&](const auto& row) { return row.kind == kind; });
  return found == std::ranges::end(table) ? nullptr : &*found;
}

}  // namespace sextant::deploy
