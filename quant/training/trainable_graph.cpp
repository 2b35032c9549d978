// SPDX-License-Identifier: Apache-2.0
#include "quant/training/trainable_graph.h"

#include <algorithm>
#include <bit>

#include "deploy/graph/node_rules.h"
#include "deploy/graph/ranges.h"
#include "layers/placement.h"
#include "quant/training/trainable_nodes.h"

namespace sextant::quant {
namespace {

using deploy::Node;

constexpr float kLeastShare = 1e-3f;  // lower limit of a learned scale, relative to its start

// Bytes as floats 0..255.
Tensor image_to_integers(const Tensor& bytes) {
  const Tensor y = f32_like(bytes, bytes.shape());
  const int64_t row = bytes.numel() / bytes.dim(0);
  on(bytes).convert_strided({.x = bytes.raw(),
                             .y = y.raw(),
                             .x_type = DType::kU8,
                             .rows = bytes.dim(0),
                             .channels = row,
                             .x_pitch = row,
                             .y_pitch = row});
  return y;
}

// F32 tensors of one device, copied to the host; host tensors are returned as they are. Waits once.
std::vector<Tensor> on_host(const std::vector<Tensor>& tensors) {
  if (tensors.empty() || tensors[0].device() == Device::kCpu) return tensors;
  int64_t total = 0;
  for (const Tensor& t : tensors) total += t.numel();
  const Tensor packed = f32_like(tensors[0], Shape{total});
  int64_t at = 0;
  for (const Tensor& t : tensors) {
    accelerator().copy(packed.f32() + at, t.raw(), t.bytes(), compute_stream());
    at += t.numel();
  }
  const Tensor here = packed.to(Device::kCpu);
  std::vector<Tensor> out;
  at = 0;
  for (const Tensor& t : tensors) {
    out.emplace_back(t.shape());
    std::copy_n(here.f32() + at, t.numel(), out.back().f32());
    at += t.numel();
  }
  return out;
}

// The largest |w| / 127 of each output channel of each weight, on the host. Waits once.
std::vector<Tensor> largest_weights(const std::vector<Tensor>& weights) {
  if (weights.empty()) return {};
  int64_t total = 0;
  for (const Tensor& w : weights) total += w.dim(0);
  const Tensor bits = Tensor::zeros(Shape{total}, DType::kI32, weights[0].device());
  auto* to = reinterpret_cast<uint32_t*>(bits.data<int32_t>());
  for (const Tensor& w : weights) {
    on(w).abs_max({w.f32(), 1, w.dim(0), w.numel() / w.dim(0), to});
    to += w.dim(0);
  }
  const Tensor here = bits.to(Device::kCpu);
  const int32_t* from = here.data<int32_t>();
  std::vector<Tensor> scales;
  for (const Tensor& w : weights) {
    scales.emplace_back(Shape{w.dim(0)});
    for (float& scale : scales.back().span<float>())
      scale = deploy::weight_step(std::bit_cast<float>(*from++));
  }
  return scales;
}

// Raises values below `least` to it; returns whether any were raised.
bool raise(const Tensor& scale, const float* least) {
  bool raised = false;
  for (float& s : scale.span<float>()) {
    if (!(s > *least)) {
      raised = true;
      s = *least;
    }
    ++least;
  }
  return raised;
}

bool has_part(const std::string& name, const std::string& part) {
  return ("." + name + ".").find("." + part + ".") != std::string::npos;
}

// The tensors on which `tensor` depends, including itself.
std::vector<bool> ancestors(const deploy::Graph& graph, int tensor) {
  std::vector<bool> found(graph.tensors.size(), false);
  found[static_cast<size_t>(tensor)] = true;
  for (auto node = graph.nodes.rbegin(); node != graph.nodes.rend(); ++node)
    if (found[static_cast<size_t>(node->output)])
      for (const int t : node->inputs) found[static_cast<size_t>(t)] = true;
  return found;
}

}  // namespace

std::vector<int> neck_outputs(const deploy::Graph& graph) {
  const Node* decode = graph.decode();
  check(decode != nullptr, "{}: has no decode node, so the neck's outputs are unknown",
        graph.label());
  const std::vector<int>& maps = decode->inputs;
  const size_t per_level = decode->as<deploy::DecodeAttributes>().maps_per_level();
  std::vector<int> outputs;
  for (size_t l = 0; l + 1 < maps.size(); l += per_level) {
    const std::vector<bool> cls = ancestors(graph, maps[l]), reg = ancestors(graph, maps[l + 1]);
    const Node* last = nullptr;
    for (const Node& node : graph.nodes)
      if (cls[static_cast<size_t>(node.output)] && reg[static_cast<size_t>(node.output)])
        last = &node;
    check(last != nullptr, "{}: class and box map of level {} have nothing in common",
          graph.label(), l / per_level);
    outputs.push_back(has_part(last->name, "stems") ? last->inputs[0] : last->output);
  }
  return outputs;
}

TrainableGraph::TrainableGraph(deploy::Graph graph, TrainableOptions options)
    : graph_(std::move(graph)), options_(std::move(options)) {
  deploy::validate(graph_);
  deploy::check_fused(graph_);
  quantized_ = graph_.quantized();
  deploy::check_weight_scales(graph_);
  check(deploy::count_requantizations(graph_) == 0,
        "{}: nodes combine tensors with different ranges; run sextant quantize", graph_.label());
  last_reader_.assign(graph_.tensors.size(), -1);
  for (size_t n = 0; n < graph_.nodes.size(); ++n)
    for (const int t : graph_.nodes[n].inputs)
      last_reader_[static_cast<size_t>(t)] = static_cast<int>(n);
  register_ranges();
  register_weights();
  to(options_.device);
  for (const QuantRange& r : ranges_)
    if (r.amax.defined()) r.amax.data().move_to(options_.device);  // not a buffer
  read_ranges();
}

void TrainableGraph::register_ranges() {
  if (!quantized_) return;
  const int image = graph_.tensors[static_cast<size_t>(graph_.input)].group;
  ranges_.resize(graph_.tensors.size());
  least_amax_.assign(graph_.tensors.size(), 0.0f);
  for (const deploy::TensorInfo& info : graph_.tensors) {
    if (!info.has_range()) continue;
    QuantRange& r = ranges_.at(static_cast<size_t>(info.group));
    if (r.amax.defined()) {
      check(r.amax.f32()[0] == info.amax && r.is_unsigned == info.is_unsigned,
            "{}: the range of tensor '{}' differs from its group's", graph_.source, info.name);
      continue;
    }
    const Tensor amax = Tensor::full(Shape{1}, info.amax);
    r.is_unsigned = info.is_unsigned;
    if (info.group == image) {
      r.amax = Variable(amax);
    } else if (options_.learn_activation_ranges) {
      r.amax = register_parameter(info.name + ".amax", amax);
      least_amax_[static_cast<size_t>(info.group)] = kLeastShare * info.amax;
    } else {
      r.amax = Variable(register_buffer(info.name + ".amax", amax));
    }
  }
}

void TrainableGraph::register_weights() {
  parameters_.resize(graph_.nodes.size());
  for (size_t n = 0; n < graph_.nodes.size(); ++n) {
    Node& node = graph_.nodes[n];
    if (!node.has_weight()) continue;
    Parameters& p = parameters_[n];
    p.weight = register_parameter(node.name + ".weight", node.weight.clone(),
                                  deploy::rules_of(node).weight.value());
    if (node.bias.defined()) p.bias = register_parameter(node.name + ".bias", node.bias.clone());
    node.weight = node.bias = Tensor();
    if (!deploy::runs_in_int8(graph_, node)) continue;
    const Tensor scale = Tensor::from(Shape{p.weight.dim(0)}, node.weight_scale);
    const std::string name = node.name + ".weight_scale";
    if (options_.weights == WeightRanges::kLearned) {
      p.weight_scale = register_parameter(name, scale);
      p.least_scale = scale.clone();
      for (float& s : p.least_scale.span<float>()) s *= kLeastShare;
    } else {
      p.weight_scale = Variable(register_buffer(name, scale));
    }
  }
}

bool TrainableGraph::is_integer(int tensor) const {
  return quantized_ && graph_.tensors[static_cast<size_t>(tensor)].has_range();
}

const QuantRange& TrainableGraph::range(int tensor) const {
  return ranges_[static_cast<size_t>(graph_.tensors[static_cast<size_t>(tensor)].group)];
}

Variable TrainableGraph::real(const std::vector<Variable>& values, int tensor) const {
  const Variable& v = values[static_cast<size_t>(tensor)];
  return is_integer(tensor) ? dequantize(v, range(tensor)) : v;
}

Variable TrainableGraph::image(const Tensor& images) const {
  check(images.defined() && images.dtype() == DType::kU8 && images.shape().rank() == 4 &&
            images.dim(3) == 3,
        "trainable graph: images must be U8 [N,H,W,3]");
  return Variable(is_integer(graph_.input) ? image_to_integers(images) : image_to_float(images));
}

Variable TrainableGraph::run(size_t n, const std::vector<Variable>& values) const {
  const Node& node = graph_.nodes[n];
  const auto range_of = [&](int t) { return is_integer(t) ? &range(t) : nullptr; };
  const Parameters& p = parameters_[n];
  TrainableNode view{.node = node,
                     .inputs = {},
                     .input_ranges = {},
                     .output_range = range_of(node.output),
                     .weight = p.weight,
                     .bias = p.bias,
                     .weight_scale = p.weight_scale,
                     .runs_in_int8 = deploy::runs_in_int8(graph_, node)};
  for (const int t : node.inputs) {
    view.inputs.push_back(values[static_cast<size_t>(t)]);
    view.input_ranges.push_back(range_of(t));
  }
  return run_trainable(view);
}

TrainableGraph::Output TrainableGraph::forward(const Tensor& images,
                                               const Observer& observer) const {
  std::vector<Variable> values(graph_.tensors.size());
  Output out;
  out.features.resize(options_.features.size());
  for (size_t n = 0; n < graph_.nodes.size(); ++n) {
    const Node& node = graph_.nodes[n];
    if (const auto* decode = std::get_if<deploy::DecodeAttributes>(&node.attributes)) {
      std::vector<Variable>* const maps[] = {&out.cls_logits, &out.reg, &out.objectness};
      for (size_t i = 0; i < node.inputs.size(); ++i)
        maps[i % decode->maps_per_level()]->push_back(real(values, node.inputs[i]));
      continue;
    }
    Variable& y = values[static_cast<size_t>(node.output)];
    y = node.output == graph_.input ? image(images) : run(n, values);
    if (observer) observer(node.output, y);
    for (size_t f = 0; f < options_.features.size(); ++f)
      if (options_.features[f] == node.output) out.features[f] = real(values, node.output);
    // Releases tensors after their last reader; backward keeps what it needs.
    for (const int t : node.inputs)
      if (last_reader_[static_cast<size_t>(t)] == static_cast<int>(n) && t != graph_.output)
        values[static_cast<size_t>(t)] = Variable();
  }
  if (!graph_.decode()) out.result = real(values, graph_.output);
  return out;
}

void TrainableGraph::update_scales() {
  if (options_.weights == WeightRanges::kFollow) {
    std::vector<Tensor> weights, scales;
    for (const Parameters& p : parameters_) {
      if (!p.weight_scale.defined()) continue;
      weights.push_back(p.weight.data());
      scales.push_back(p.weight_scale.data());
    }
    const std::vector<Tensor> largest = largest_weights(weights);
    for (size_t i = 0; i < scales.size(); ++i) scales[i].copy_from(largest[i]);
  }
  std::vector<Tensor> learned;
  std::vector<const float*> least;
  for (const Parameters& p : parameters_) {
    if (!p.least_scale.defined()) continue;
    learned.push_back(p.weight_scale.data());
    least.push_back(p.least_scale.f32());
  }
  for (size_t g = 0; g < ranges_.size(); ++g) {
    if (least_amax_[g] <= 0) continue;
    learned.push_back(ranges_[g].amax.data());
    least.push_back(&least_amax_[g]);
  }
  const std::vector<Tensor> here = on_host(learned);
  for (size_t i = 0; i < here.size(); ++i)
    if (raise(here[i], least[i]) && options_.device != Device::kCpu) learned[i].copy_from(here[i]);
  if (options_.learn_activation_ranges) read_ranges();
}

void TrainableGraph::read_ranges() {
  if (options_.device == Device::kCpu) return;  // asked each time
  std::vector<QuantRange*> ranges;
  std::vector<Tensor> amax;
  for (QuantRange& r : ranges_) {
    if (!r.amax.defined()) continue;
    ranges.push_back(&r);
    amax.push_back(r.amax.data());
  }
  const std::vector<Tensor> here = on_host(amax);
  for (size_t i = 0; i < ranges.size(); ++i) ranges[i]->known = here[i].f32()[0];
}

deploy::Graph TrainableGraph::graph() const {
  deploy::Graph graph = graph_;
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    Node& node = graph.nodes[n];
    const Parameters& p = parameters_[n];
    if (!node.has_weight()) continue;
    node.weight = p.weight.data().clone().to(Device::kCpu);
    if (p.bias.defined()) node.bias = p.bias.data().clone().to(Device::kCpu);
    if (!p.weight_scale.defined()) continue;
    // Computed from the weights: they may be averages, for which update_scales() has not run.
    const Tensor scale = options_.weights == WeightRanges::kFollow
                             ? largest_weights({node.weight})[0]
                             : p.weight_scale.data().to(Device::kCpu);
    node.weight_scale.assign(scale.f32(), scale.f32() + scale.numel());
  }
  if (!ranges_.empty())
    for (deploy::TensorInfo& info : graph.tensors)
      if (info.has_range())
        info.amax = static_cast<float>(ranges_[static_cast<size_t>(info.group)].amax.data().item());
  return graph;
}

}  // namespace sextant::quant
