// SPDX-License-Identifier: Apache-2.0
#include "quant/layers/incremental_runner.h"

#include <algorithm>

#include "kernels/backend.h"

namespace sextant::quant {
namespace {

using deploy::Graph;
using deploy::Node;
using deploy::Place;

bool same_range(const deploy::TensorInfo& a, const deploy::TensorInfo& b) {
  return a.amax == b.amax && a.is_unsigned == b.is_unsigned;
}

// The nodes on which one of the tensors depends.
std::vector<bool> leading_to(const Graph& graph, const std::vector<int>& tensors) {
  std::vector<bool> wanted(graph.tensors.size(), false);
  for (const int t : tensors) wanted.at(static_cast<size_t>(t)) = true;
  std::vector<bool> nodes(graph.nodes.size(), false);
  for (size_t i = graph.nodes.size(); i-- > 0;) {
    const Node& node = graph.nodes[i];
    nodes[i] = wanted[static_cast<size_t>(node.output)];
    if (nodes[i])
      for (const int t : node.inputs) wanted[static_cast<size_t>(t)] = true;
  }
  return nodes;
}

std::byte* grown(Tensor& arena, int64_t bytes) {
  if (!arena.defined() || arena.numel() < bytes)
    arena = Tensor(Shape{std::max<int64_t>(bytes, 1)}, DType::kU8);
  return reinterpret_cast<std::byte*>(arena.data<uint8_t>());
}

}  // namespace

IncrementalRunner::IncrementalRunner(const Graph& base, int64_t batch, int64_t height,
                                     int64_t width)
    : base_(base),
      config_{.batch = batch,
              .height = height,
              .width = width,
              .precision = deploy::Precision::kInt8,
              .simulate = true} {
  deploy::BuildOptions options{.keep_activations = true, .nodes = {}};
  for (const Node& node : base_.nodes) options.nodes.push_back(&node != base_.decode());
  program_ = deploy::build_program(base_, config_, options);
  bases_ = deploy::bases_in(program_, grown(arena_, program_.stats.arena_bytes));
}

void IncrementalRunner::run_base(const Tensor& images) {
  const Shape expected{config_.batch, config_.height, config_.width, 3};
  check(images.defined() && images.dtype() == DType::kU8 && images.shape() == expected,
        "variants: images must be u8 {}", expected.str());
  bases_[deploy::kImages] = static_cast<std::byte*>(images.raw());
  for (const auto& step : program_.steps) step->run(bases_);
}

Tensor IncrementalRunner::base_values(int tensor) const {
  return deploy::view_of(base_, program_, bases_, tensor).values();
}

// Nodes whose computation or inputs differ from the base.
std::vector<bool> IncrementalRunner::changed_nodes(const Graph& variant) const {
  check(
      variant.nodes.size() == base_.nodes.size() && variant.tensors.size() == base_.tensors.size(),
      "variants: the graphs have {} and {} nodes", base_.nodes.size(), variant.nodes.size());
  std::vector<bool> changed(variant.nodes.size(), false);
  std::vector<bool> moved(variant.tensors.size(), false);  // tensors whose values differ
  for (size_t i = 0; i < variant.nodes.size(); ++i) {
    const Node& node = variant.nodes[i];
    const Node& before = base_.nodes[i];
    check(node.attributes == before.attributes && node.inputs == before.inputs &&
              node.output == before.output,
          "variants: node '{}' differs from the base", node.name);
    const auto other_range = [&](int t) {
      const size_t k = static_cast<size_t>(t);
      return moved[k] || !same_range(variant.tensors[k], base_.tensors[k]);
    };
    changed[i] = other_range(node.output) ||
                 std::any_of(node.inputs.begin(), node.inputs.end(), other_range) ||
                 (node.has_weight() &&
                  (node.precision != before.precision || node.weight_scale != before.weight_scale));
    moved[static_cast<size_t>(node.output)] = changed[i];
  }
  return changed;
}

std::vector<Tensor> IncrementalRunner::run(const Graph& variant, const std::vector<int>& tensors) {
  const std::vector<bool> changed = changed_nodes(variant);
  deploy::BuildOptions options{.keep_activations = true, .nodes = leading_to(variant, tensors)};
  for (size_t i = 0; i < changed.size(); ++i) options.nodes[i] = options.nodes[i] && changed[i];
  nodes_run_ = std::count(options.nodes.begin(), options.nodes.end(), true);
  const deploy::Program program = deploy::build_program(variant, config_, options);

  // Tensors use the same storages as in the base. A variant shares a storage with the base unless
  // it writes to it.
  deploy::Bases bases = deploy::bases_in(program, grown(spare_, program.stats.arena_bytes));
  std::vector<bool> written(bases.size(), false);
  std::vector<bool> made(variant.tensors.size(), false);
  for (size_t i = 0; i < options.nodes.size(); ++i) {
    if (!options.nodes[i]) continue;
    const size_t t = static_cast<size_t>(variant.nodes[i].output);
    made[t] = true;
    written[static_cast<size_t>(program.tensors[t].storage)] = true;
  }
  for (size_t t = 0; t < made.size(); ++t) {
    const Place& place = program.tensors[t];
    const Place& before = program_.tensors[t];
    const size_t storage = static_cast<size_t>(place.storage);
    check(place.storage == before.storage && place.byte_offset == before.byte_offset &&
              place.dtype == before.dtype,
          "variants: tensor '{}' is stored elsewhere than in the base", variant.tensors[t].name);
    if (!written[storage]) bases[storage] = bases_[storage];
  }
  // if only a part of a concat's buffer is written here, the rest is copied from the base
  for (size_t t = 0; t < made.size(); ++t) {
    const Place& place = program.tensors[t];
    if (made[t] || !written[static_cast<size_t>(place.storage)]) continue;
    const int64_t size = size_of(place.dtype);
    kernels::backend(Device::kCpu)
        .copy_strided({.source = place.at(bases_),
                       .destination = place.at(bases),
                       .rows = program.shapes[t].numel() / place.channels,
                       .bytes = place.channels * size,
                       .source_pitch = place.pitch * size,
                       .destination_pitch = place.pitch * size});
  }
  bases[deploy::kImages] = bases_[deploy::kImages];
  for (const auto& step : program.steps) step->run(bases);

  std::vector<Tensor> result;
  for (const int t : tensors)
    result.push_back(deploy::view_of(variant, program, bases, t).values());
  return result;
}

int64_t activation_bytes(const Graph& graph, int64_t height, int64_t width) {
  int64_t bytes = 0;
  for (const Shape& shape : deploy::infer_shapes(graph, 1, height, width))
    bytes += shape.numel() * size_of(DType::kF32);
  return bytes;
}

}  // namespace sextant::quant
