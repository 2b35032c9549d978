// SPDX-License-Identifier: Apache-2.0
#include "deploy/engine/program_builder.h"

#include <algorithm>

#include "deploy/engine/node_steps.h"
#include "deploy/graph/ranges.h"
#include "deploy/integer/lower.h"

namespace sextant::deploy {

ProgramBuilder::ProgramBuilder(const Graph& graph, const EngineConfig& config,
                               const BuildOptions& options)
    : graph_(graph), config_(config), options_(options), on_(kernels::backend(config.device)) {}

Program ProgramBuilder::build() {
  validate(graph_);
  check_fused(graph_);
  check_device();
  consumers_ = graph_.consumers();
  producers_ = graph_.producers();
  program_.shapes = infer_shapes(graph_, config_.batch, config_.height, config_.width);
  hold_tensors();
  assign_places();
  for (size_t i = 0; i < graph_.nodes.size(); ++i) {
    if (!options_.nodes.empty() && !options_.nodes[i]) continue;
    node_ = static_cast<int>(i);
    steps_of(graph_.nodes[i].kind()).emit(*this, graph_.nodes[i]);
  }
  if (cuda()) emit_result();
  finish();
  return std::move(program_);
}

void ProgramBuilder::check_device() const {
  check(cuda() || config_.precision != Precision::kFloat16,
        "engine: precision fp16 needs device cuda");
  check(!cuda() || !integer(), "engine: precision integer needs device cpu");
  check(!cuda() || !config_.simulate, "engine: simulate needs device cpu");
  check(!config_.float_images || config_.precision == Precision::kFloat32,
        "engine: float_images needs precision fp32");
  check(!integer() || !config_.simulate, "engine: simulate needs precision int8");
}

// ---- tensors

// Which tensors are held as integers, and the value of one step of each.
void ProgramBuilder::hold_tensors() {
  program_.quantized.assign(graph_.tensors.size(), false);
  program_.scales.assign(graph_.tensors.size(), 1.0f);
  if (!int8()) return;
  check(graph_.quantized(), "{}: has no activation ranges; run sextant quantize", graph_.label());
  check_weight_scales(graph_);
  if (integer()) check_integer(graph_);
  for (size_t t = 0; t < graph_.tensors.size(); ++t) {
    program_.quantized[t] = integer() || graph_.tensors[t].has_range();
    if (program_.quantized[t])
      program_.scales[t] = static_cast<float>(integer_scale(graph_, static_cast<int>(t)));
  }
}

Meaning ProgramBuilder::meaning(int t) const {
  return {.quantized = quantized(t), .is_unsigned = info(t).is_unsigned, .scale = info(t).scale()};
}

bool ProgramBuilder::same_meaning(int a, int b) const {
  if (!quantized(a) || !quantized(b)) return quantized(a) == quantized(b);
  return info(a).amax == info(b).amax && info(a).is_unsigned == info(b).is_unsigned;
}

DType ProgramBuilder::held_as(int t) const {
  if (maker(t).is<DecodeAttributes>() && !quantized(t)) return DType::kF32;
  if (!quantized(t) || config_.simulate) return float_type();
  if (!info(t).has_range()) return DType::kI32;  // head outputs and result in integers
  return info(t).is_unsigned ? DType::kU8 : DType::kI8;
}

// ---- places

int ProgramBuilder::new_storage(int64_t bytes) {
  storage_bytes_.push_back(bytes);
  return static_cast<int>(storage_bytes_.size()) - 1;
}

Place ProgramBuilder::part(Place p, int64_t begin, int64_t count) {
  p.byte_offset += begin * size_of(p.dtype);
  p.channels = count;
  return p;
}

// Whether a concat's input can lie in the concat's buffer. All kernels read with a pitch.
bool ProgramBuilder::fits_in_place(const Node& concat, int t) const {
  return t != graph_.output && steps_of(maker(t).kind()).writes_with_pitch &&
         same_meaning(t, concat.output) &&
         std::count(concat.inputs.begin(), concat.inputs.end(), t) == 1;
}

// Last node to first, so that a concat inside another finds its own place settled.
void ProgramBuilder::assign_places() {
  program_.tensors.resize(graph_.tensors.size());
  storage_bytes_ = {0, 0};
  std::vector<bool> placed(graph_.tensors.size(), false);
  for (size_t i = graph_.nodes.size(); i-- > 0;) {
    const Node& node = graph_.nodes[i];
    const size_t out = static_cast<size_t>(node.output);
    if (!placed[out]) {
      const bool external = node.is<InputAttributes>() &&
                            (config_.float_images || held_as(node.output) == DType::kU8);
      const int64_t bytes = shape(node.output).numel() * size_of(held_as(node.output));
      const bool result = node.is<DecodeAttributes>() && !integer();
      const int storage = external ? kImages : result ? kResult : new_storage(bytes);
      program_.tensors[out] = dense(storage, shape(node.output)[-1], held_as(node.output));
      placed[out] = true;
    }
    if (!node.is<ConcatAttributes>()) continue;
    int64_t channel = 0;
    for (const int t : node.inputs) {
      const size_t in = static_cast<size_t>(t);
      if (!placed[in] && fits_in_place(node, t)) {
        program_.tensors[in] = part(program_.tensors[out], channel, shape(t)[3]);
        placed[in] = true;
      }
      channel += shape(t)[3];
    }
  }
  // A slice that lies in no concat is read where its input lies. First node to last, as that may be a
  // slice itself.
  for (const Node& node : graph_.nodes) {
    if (!node.is<SliceAttributes>() || node.output == graph_.output) continue;
    const int in = node.inputs[0];
    Place& out = program_.tensors[static_cast<size_t>(node.output)];
    if (!out.dense() || place(in).storage == kImages || !same_meaning(in, node.output)) continue;
    out = part(place(in), node.as<SliceAttributes>().begin, out.channels);
  }
}

// ---- steps

void ProgramBuilder::add(std::unique_ptr<Step> step) {
  step->node = node_;
  program_.stats.weight_bytes += step->weight_bytes;
  program_.steps.push_back(std::move(step));
}

Place ProgramBuilder::as_float(int t) {
  if (!quantized(t)) return place(t);
  const Place copy = scratch(rows(t), shape(t)[-1], float_type());
  add(make_map_step(on_, place(t), meaning(t), copy, {}, rows(t), Activation::kIdentity));
  return copy;
}

void ProgramBuilder::from_float(const Place& source, int t) {
  add(make_map_step(on_, source, {}, place(t), meaning(t), rows(t), Activation::kIdentity));
}

Place ProgramBuilder::as_meant(int t, int like) {
  if (same_meaning(t, like)) return place(t);
  const Place copy = scratch(rows(t), shape(t)[-1], held_as(like));
  requantize(t, place(t), like, copy);
  return copy;
}

void ProgramBuilder::requantize(int t, const Place& from, int like, const Place& to) {
  auto step =
      make_map_step(on_, from, meaning(t), to, meaning(like), rows(t), Activation::kIdentity);
  step->kind = "requantize";
  ++program_.stats.requantizations;
  add(std::move(step));
}

void ProgramBuilder::move(int t, const Place& from, int like, const Place& to) {
  if (same_meaning(t, like)) return add(make_copy_step(on_, from, to, rows(t)));
  requantize(t, from, like, to);
}

// The output as f32 where the caller takes it from.
void ProgramBuilder::emit_result() {
  const int t = graph_.output;
  if (place(t).storage == kResult) return;
  add(make_map_step(on_, place(t), meaning(t), dense(kResult, shape(t)[-1], DType::kF32), {},
                    rows(t), Activation::kIdentity));
}

// ---- memory

void ProgramBuilder::finish() {
  std::vector<Interval> lives(storage_bytes_.size());
  for (size_t s = 0; s < lives.size(); ++s) lives[s] = {storage_bytes_[s], -1, -1};
  for (size_t i = 0; i < program_.steps.size(); ++i) {
    for (const int s : program_.steps[i]->storages) {
      Interval& life = lives[static_cast<size_t>(s)];
      if (life.first < 0) life.first = static_cast<int>(i);
      life.last = static_cast<int>(i);
    }
  }
  // the result is read after the last step
  lives[static_cast<size_t>(place(graph_.output).storage)].last =
      static_cast<int>(program_.steps.size());
  if (options_.keep_activations)
    for (Interval& life : lives) life = {life.bytes, 0, static_cast<int>(program_.steps.size())};
  // a storage nothing touches any more (its tensor moved into a residual) takes no room
  for (Interval& life : lives)
    if (life.first < 0) life.bytes = 0;
  lives[kImages].bytes = lives[kResult].bytes = 0;
  const MemoryPlan plan = plan_memory(lives);
  program_.offsets = plan.offsets;
  program_.storage_bytes = storage_bytes_;
  program_.stats.arena_bytes = plan.bytes;
  program_.stats.unplanned_bytes = plan.unshared_bytes;
  program_.stats.steps = static_cast<int64_t>(program_.steps.size());
}

// ---- programs

Bases bases_in(const Program& program, std::byte* arena) {
  Bases bases;
  for (const int64_t offset : program.offsets) bases.push_back(arena + offset);
  return bases;
}

TensorView view_of(const Graph& graph, const Program& program, const Bases& bases, int tensor) {
  const auto t = static_cast<size_t>(tensor);
  TensorView v;
  v.id = tensor;
  v.info = &graph.tensors.at(t);
  v.shape = program.shapes[t];
  v.data = program.tensors[t].at(bases);
  v.dtype = program.tensors[t].dtype;
  v.pitch = program.tensors[t].pitch;
  v.scale = program.scales[t];
  v.quantized = program.quantized[t];
  return v;
}

Program build_program(const Graph& graph, const EngineConfig& config, const BuildOptions& options) {
  return ProgramBuilder(graph, config, options).build();
}

}  // namespace sextant::deploy
