// SPDX-License-Identifier: Apache-2.0
// Shape inference and validation.
#include <cmath>
#include <set>

#include "deploy/graph/node_rules.h"

namespace sextant::deploy {
namespace {

constexpr int64_t kMaxSide = 1 << 16;
constexpr int64_t kMaxBatch = 1 << 16;
constexpr int64_t kMaxElements = int64_t{1} << 36;
constexpr size_t kMaxNodes = 1 << 16;

// The inputs of the node, each of rank 4 and as many as its kind takes.
std::vector<Shape> input_shapes(const Node& node, const std::vector<Shape>& shapes) {
  const size_t n = node.inputs.size();
  const int rule = rules_of(node).inputs;
  if (rule == kAnyNumber) {
    check(n > 0, "no inputs");
  } else {
    const size_t expected = static_cast<size_t>(rule) + node.has_residual();
    check(n == expected, "{} inputs, expected {}", n, expected);
  }
  std::vector<Shape> inputs;
  for (const int t : node.inputs) {
    inputs.push_back(shapes[static_cast<size_t>(t)]);
    check(inputs.back().rank() == 4, "input of shape {} is not [N,H,W,C]", inputs.back().str());
  }
  return inputs;
}

void validate_structure(const Graph& g) {
  const std::string at = g.label();
  const int count = static_cast<int>(g.tensors.size());
  check(!g.nodes.empty() && g.nodes.size() <= kMaxNodes, "{}: {} nodes, must be 1 to {}", at,
        g.nodes.size(), kMaxNodes);
  check(g.input >= 0 && g.input < count && g.output >= 0 && g.output < count,
        "{}: input or output tensor missing", at);
  std::set<std::string> names;
  std::vector<bool> made(g.tensors.size(), false);
  for (const Node& node : g.nodes) {
    check(!node.name.empty() && names.insert(node.name).second,
          "{}: node name '{}' is empty or a duplicate", at, node.name);
    const bool input = node.is<InputAttributes>();
    for (const int t : node.inputs) {
      check(t >= 0 && t < count, "{}: node '{}' reads tensor {}, but the graph has {}", at,
            node.name, t, count);
      check(made[static_cast<size_t>(t)],
            "{}: node '{}' reads tensor '{}' before any node makes it (a cycle, or out of order)",
            at, node.name, g.tensors[static_cast<size_t>(t)].name);
    }
    check(node.output >= 0 && node.output < count && !made[static_cast<size_t>(node.output)],
          "{}: node '{}': its output tensor is missing or made twice", at, node.name);
    check(input == (node.output == g.input) && (!input || node.inputs.empty()),
          "{}: node '{}': the input node must make the input tensor", at, node.name);
    check(!node.is<DecodeAttributes>() || node.output == g.output,
          "{}: node '{}': decode must be the last node", at, node.name);
    made[static_cast<size_t>(node.output)] = true;
  }
  std::set<std::string> tensor_names;
  for (size_t t = 0; t < g.tensors.size(); ++t) {
    const TensorInfo& info = g.tensors[t];
    check(made[t], "{}: tensor '{}' is not made by any node", at, info.name);
    check(!info.name.empty() && tensor_names.insert(info.name).second,
          "{}: tensor name '{}' is empty or a duplicate", at, info.name);
    check(std::isfinite(info.amax) && info.amax >= 0 && info.amax < 1e30f,
          "{}: tensor '{}': amax is {}", at, info.name, info.amax);
    check(info.group >= -1 && info.group < count, "{}: tensor '{}': group {}", at, info.name,
          info.group);
  }
  check(g.image_size >= 0 && g.image_size <= kMaxSide, "{}: image_size is {}", at, g.image_size);
  check(g.image_width >= 0 && g.image_width <= kMaxSide, "{}: image_width is {}", at,
        g.image_width);
}

}  // namespace

int64_t size_multiple(const Graph& graph) {
  const Node* decode = graph.decode();
  if (!decode) return 1;
  const auto& a = decode->as<DecodeAttributes>();
  if (a.size_multiple > 0) return a.size_multiple;
  int64_t largest = 1;
  for (const int64_t s : a.strides) largest = std::max(largest, s);
  return largest;
}

std::vector<Shape> infer_shapes(const Graph& graph, int64_t batch, int64_t height, int64_t width) {
  check(batch >= 1 && batch <= kMaxBatch, "{}: batch {} must be in [1, {}]", graph.label(), batch,
        kMaxBatch);
  check(height >= 1 && height <= kMaxSide && width >= 1 && width <= kMaxSide,
        "{}: image size {}x{} must be in [1, {}]", graph.label(), width, height, kMaxSide);
  const int64_t multiple = size_multiple(graph);
  check(height % multiple == 0 && width % multiple == 0,
        "{}: image size {}x{} must be a multiple of {}", graph.label(), width, height, multiple);
  std::vector<Shape> shapes(graph.tensors.size());
  const Shape& traced = graph.tensors[static_cast<size_t>(graph.input)].shape;
  check(traced.rank() == 4 && traced[3] == 3, "{}: input tensor {} must be [N,H,W,3]",
        graph.label(), traced.str());
  shapes[static_cast<size_t>(graph.input)] = {batch, height, width, 3};
  for (const Node& node : graph.nodes) {
    const Shape y = output_shape(graph, node, shapes);
    double elements = 1;
    for (const int64_t d : y.dims()) elements *= static_cast<double>(d);
    check(elements > 0 && elements <= static_cast<double>(kMaxElements) &&
              (y.rank() != 4 || y[3] <= kMaxChannels),
          "{}: node '{}': output size {} is out of bounds", graph.label(), node.name, y.str());
    shapes[static_cast<size_t>(node.output)] = y;
  }
  return shapes;
}

Shape output_shape(const Graph& graph, const Node& node, const std::vector<Shape>& shapes) {
  try {
    check_attributes(node.attributes);
    return rules_of(node).shape({.node = node,
                                 .inputs = input_shapes(node, shapes),
                                 .image = shapes[static_cast<size_t>(graph.input)]});
  } catch (const Error& e) {
    fail("{}: node '{}' ({}): {}", graph.label(), node.name, name_of(node.kind()), e.what());
  }
}

void validate(const Graph& graph) {
  validate_structure(graph);
  const Shape& image = graph.tensors[static_cast<size_t>(graph.input)].shape;
  check(image.rank() == 4, "{}: tensor '{}': shape {} must be [N,H,W,3]", graph.label(),
        graph.tensors[static_cast<size_t>(graph.input)].name, image.str());
  const std::vector<Shape> shapes = infer_shapes(graph, image[0], image[1], image[2]);
  for (size_t t = 0; t < shapes.size(); ++t)
    check(shapes[t] == graph.tensors[t].shape, "{}: tensor '{}' has shape {}, expected {}",
          graph.label(), graph.tensors[t].name, graph.tensors[t].shape.str(), shapes[t].str());
}

}  // namespace sextant::deploy
