// SPDX-License-Identifier: Apache-2.0
// The table of node kinds: checks every row, including rows added later.
#include <set>

#include "deploy/engine/engine.h"
#include "deploy/graph/attribute_json.h"
#include "deploy/graph/file.h"
#include "deploy/graph/info.h"
#include "deploy/networks.h"

using namespace sextant;
using namespace sextant::deploy;

namespace {

std::vector<NodeKind> all_kinds() {
  std::vector<NodeKind> kinds;
  for (const auto& row : enum_names(NodeKind{}).rows) kinds.push_back(row.first);
  return kinds;
}

// Sets every attribute to something else than its default, within its bounds.
class Change : public AttributeVisitor {
 public:
  void attribute(const Key& key, AttributeField field, Bounds bounds) override {
    const auto high = static_cast<int64_t>(bounds.high);
    if (auto** integer = std::get_if<int64_t*>(&field))
      **integer = **integer < high ? **integer + 1 : static_cast<int64_t>(bounds.low);
    if (auto** list = std::get_if<std::vector<int64_t>*>(&field)) **list = {1, high};
    if (auto** number = std::get_if<float*>(&field)) **number += 0.25f;
    if (auto** flag = std::get_if<bool*>(&field)) **flag = !**flag;
    if (auto** name = std::get_if<std::string*>(&field))
      **name = std::string(key.name) == "residual" ? "before_activation" : "relu";
  }
};

// Sets the n-th number below or above its bounds.
class Exceed : public AttributeVisitor {
 public:
  Exceed(int n, bool above) : n_(n), above_(above) {}
  void attribute(const Key& key, AttributeField field, Bounds bounds) override {
    const bool has_bounds =
        !std::holds_alternative<bool*>(field) && !std::holds_alternative<std::string*>(field);
    if (!has_bounds || n_-- != 0) return;
    changed = key.name;
    const auto beyond = static_cast<int64_t>(above_ ? bounds.high + 1 : bounds.low - 1);
    if (auto** integer = std::get_if<int64_t*>(&field)) **integer = beyond;
    if (auto** list = std::get_if<std::vector<int64_t>*>(&field)) **list = {beyond};
    if (auto** number = std::get_if<float*>(&field)) **number = above_ ? INFINITY : NAN;
  }
  std::string changed;

 private:
  int n_;
  bool above_;
};

Attributes changed(NodeKind kind) {
  Attributes attributes = default_attributes(kind);
  Change change;
  visit_attributes(attributes, change);
  return attributes;
}

Json written(const Attributes& attributes) {
  Json json = Json::object();
  AttributeWriter writer(json, kind_of(attributes));
  visit_attributes(attributes, writer);
  return json;
}

Attributes read(NodeKind kind, const Json& json) {
  Attributes attributes = default_attributes(kind);
  ConfigReader from(json, "f.json");
  AttributeReader reader(from);
  visit_attributes(attributes, reader);
  from.finish();
  return attributes;
}

}  // namespace

TEST_CASE("kinds of nodes: attributes survive the round trip through JSON") {
  for (const NodeKind kind : all_kinds()) {
    CAPTURE(name_of(kind));
    const Attributes attributes = changed(kind);
    REQUIRE(kind_of(attributes) == kind);
    CHECK_NOTHROW(check_attributes(attributes));
    CHECK(read(kind, written(attributes)) == attributes);
    const Attributes standard = default_attributes(kind);
    CHECK(read(kind, written(standard)) == standard);
    CHECK((attributes == standard) == written(attributes).empty());
  }
}

TEST_CASE("kinds of nodes: a number out of bounds is named") {
  for (const NodeKind kind : all_kinds())
    for (int n = 0;; ++n) {
      std::string key;
      for (const bool above : {false, true}) {
        Attributes attributes = changed(kind);
        Exceed exceed(n, above);
        visit_attributes(attributes, exceed);
        key = exceed.changed;
        if (key.empty()) break;
        CAPTURE(name_of(kind), key, above);
        CHECK(test::error_of([&] { check_attributes(attributes); }).starts_with(key + " "));
      }
      if (key.empty()) break;
    }
}

TEST_CASE("kinds of nodes: missing and mistyped attributes are named, with the file") {
  Json json = written(changed(NodeKind::kMaxPool));
  const auto error = [&] { return test::error_of([&] { read(NodeKind::kMaxPool, json); }); };
  json["stride"] = 1.5;
  CHECK(error() == "f.json: 'stride' must be an integer, not 1.5");
  json["stride"] = "x";
  CHECK(error() == "f.json: 'stride' must be an integer, not \"x\"");
  json.erase("stride");
  CHECK(error() == "f.json: 'stride' is missing");
  json["stride"] = 1;
  json["strid"] = 1;
  CHECK(error() == "f.json: unknown key 'strid'; nearest is 'stride'");

  Json conv = written(ConvAttributes{});
  CHECK_FALSE(conv.contains("residual_scale"));  // 1 is not written ...
  CHECK(conv.at("residual") == "none");          // ... this always, but files may lack it
  conv.erase("residual");
  CHECK(read(NodeKind::kConv, conv) == Attributes(ConvAttributes{}));
  conv["residual"] = "first";
  CHECK(test::error_of([&] { read(NodeKind::kConv, conv); }) ==
        "unknown residual 'first'; use none, before_activation or after_activation");
}

TEST_CASE("kinds of nodes: each operation of a trace is one kind") {
  std::set<std::string> operations;
  for (const NodeKind kind : all_kinds()) {
    const std::string operation(rules_of(kind).traced_as);
    if (operation.empty()) continue;
    CHECK(operations.insert(operation).second);
    CHECK(kind_traced_as(operation) == kind);
  }
  CHECK(operations.size() >= 10);
  CHECK_FALSE(kind_traced_as("").has_value());
  CHECK_FALSE(kind_traced_as("conv3d").has_value());
}

TEST_CASE("kinds of nodes: linked channels match the shapes") {
  const Graph g = fuse(test::traced(test::MixedNet(Activation::kReLU, 3), {1, 32, 32, 3}));
  std::set<NodeKind> seen;
  for (const Node& node : g.nodes) {
    const NodeRules& rules = rules_of(node);
    if (!rules.channels) continue;
    CAPTURE(node.name);
    seen.insert(node.kind());
    std::vector<int64_t> channels;
    for (const int t : node.inputs) channels.push_back(g.tensors[static_cast<size_t>(t)].shape[3]);
    const int64_t made = g.tensors[static_cast<size_t>(node.output)].shape[3];
    std::vector<int> covered(static_cast<size_t>(made), 0);
    for (const ChannelLink& link : rules.channels(node, channels)) {
      REQUIRE(link.input < channels.size());
      CHECK((link.begin >= 0 && link.begin + link.count <= channels[link.input]));
      REQUIRE((link.output_begin >= 0 && link.output_begin + link.count <= made));
      for (int64_t c = 0; c < link.count; ++c)
        ++covered[static_cast<size_t>(link.output_begin + c)];
    }
    const int times = node.is<AddAttributes>() ? 2 : 1;
    CHECK(covered == std::vector<int>(covered.size(), times));
  }
  CHECK(seen.size() == 6);
}

TEST_CASE("kinds of nodes: outputs that are never negative") {
  const auto positive = [](const Attributes& attributes, const std::vector<bool>& inputs) {
    Node node;
    node.attributes = attributes;
    return rules_of(node).never_negative(node, inputs);
  };
  const auto after = [](float factor) {
    return ConvAttributes{
        .activation = Activation::kReLU, .residual = true, .residual_scale = factor};
  };
  CHECK(positive(after(0.5f), {false, true}));
  CHECK_FALSE(positive(after(-0.5f), {false, true}));
  CHECK_FALSE(positive(after(0.5f), {false, false}));
  ConvAttributes before = after(-0.5f);
  before.residual_before_activation = true;
  CHECK(positive(before, {false, false}));
  CHECK(positive(AddAttributes{0.5f}, {true, true}));
  CHECK_FALSE(positive(AddAttributes{-0.5f}, {true, true}));
  CHECK_FALSE(positive(AddAttributes{0.5f}, {true, false}));
  CHECK(positive(DeconvAttributes{Activation::kSigmoid}, {false}));
  CHECK_FALSE(positive(DeconvAttributes{Activation::kSiLU}, {true}));
}

namespace {

// A convolution with a residual, its tensors, and ranges for each tensor.
struct ResidualCase {
  Graph graph;
  size_t node = 0;

  Node& conv() { return graph.nodes[node]; }
  TensorInfo& residual() { return graph.tensors[static_cast<size_t>(conv().inputs[1])]; }
  Tensor run(const Tensor& images) const {
    return Engine(graph, {1, 32, 32, Precision::kInt8}).run(images);
  }
};

ResidualCase residual_case(const Tensor& images) {
  ResidualCase c;
  c.graph = test::with_ranges(
      fuse(test::traced(test::MixedNet(Activation::kReLU, 21), {1, 32, 32, 3})), images);
  const auto found = std::ranges::find_if(c.graph.nodes, &Node::has_residual);
  c.node = static_cast<size_t>(found - c.graph.nodes.begin());
  return c;
}

std::string shown_precision(const ResidualCase& c) {
  return summarize(c.graph, 32, 32).nodes[c.node].precision;
}

}  // namespace

TEST_CASE("a layer runs in int8 if its operands allow it, and all callers agree") {
  const Tensor images = test::random_images({1, 32, 32, 3}, 22);
  ResidualCase c = residual_case(images);
  CHECK(runs_in_int8(c.graph, c.conv()));
  CHECK(shown_precision(c) == "int8");
  SECTION("not where the residual is held in another form than the output") {
    c.residual().amax = 0;
    CHECK_FALSE(can_run_in_int8(c.graph, c.conv()));
    CHECK(shown_precision(c) == "fp32");
    const Tensor y = c.run(images);
    const test::TemporaryFolder folder;
    save_deploy(folder / "f.safetensors", c.graph);
    const SafeTensors file = load_safetensors(folder / "f.safetensors");
    CHECK(file.at(c.conv().name + ".weight").dtype() == DType::kF32);
    c.conv().precision = Precision::kFloat32;
    CHECK(test::max_difference(c.run(images), y) == 0);
    c.conv().precision = Precision::kInt8;
    c.conv().weight_scale.clear();  // which it does not need then
    CHECK(test::max_difference(c.run(images), y) == 0);
  }
  SECTION("not where it is kept in float") {
    c.conv().precision = Precision::kFloat32;
    CHECK_FALSE(runs_in_int8(c.graph, c.conv()));
    CHECK(can_run_in_int8(c.graph, c.conv()));
    CHECK(shown_precision(c) == "fp32");
  }
  SECTION("not where its input has no range") {
    c.graph.tensors[static_cast<size_t>(c.conv().inputs[0])].amax = 0;
    CHECK_FALSE(can_run_in_int8(c.graph, c.conv()));
  }
  SECTION("not in a graph without ranges") {
    c.graph.tensors[static_cast<size_t>(c.graph.input)].amax = 0;
    CHECK_FALSE(can_run_in_int8(c.graph, c.conv()));
  }
  SECTION("not without weight scales, which an engine refuses") {
    c.conv().weight_scale.clear();
    CHECK_FALSE(can_run_in_int8(c.graph, c.conv()));
    CHECK(test::error_of([&] { c.run(images); }) ==
          fmt::format("the model: node '{}' has no weight scales; run sextant quantize",
                      c.conv().name));
  }
}

TEST_CASE("steps of weights are their largest magnitude over 127") {
  CHECK(weight_step(127.0f) == 1.0f);
  CHECK(weight_step(kTinyAmax) == 1.0f);
  CHECK(weight_step(2 * kTinyAmax) == 2 * kTinyAmax / 127);
  const Tensor w = Tensor::from({3, 1, 1, 2}, std::vector<float>{1, -254, 0, 0, 63.5f, 3});
  CHECK(weight_steps(w) == std::vector<float>{2.0f, 1.0f, 0.5f});
}
