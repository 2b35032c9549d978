// SPDX-License-Identifier: Apache-2.0
#include "deploy/engine/node_steps.h"

#include "deploy/engine/integer_steps.h"
#include "deploy/graph/node_rules.h"

namespace sextant::deploy {
namespace {

void emit_input(ProgramBuilder& b, const Node& node) {
  const int out = node.output;
  if (b.place(out).storage == kImages) return;  // where the caller put it
  b.add(make_input_step(b.on(), ProgramBuilder::dense(kImages, 3, DType::kU8), b.place(out),
                        b.shape(out).numel(), b.quantized(out)));
}

void emit_max_pool(ProgramBuilder& b, const Node& node) {
  const int in = node.inputs[0], out = node.output;
  b.add(make_max_pool_step(b.on(), b.as_meant(in, out), b.place(out), b.shape(in), b.shape(out),
                           node.as<MaxPoolAttributes>()));
}

void emit_average_pool(ProgramBuilder& b, const Node& node) {
  const int in = node.inputs[0], out = node.output;
  const bool simulate = b.quantized(out) && b.place(out).dtype == DType::kF32;
  b.add(make_average_pool_step(b.on(), b.as_meant(in, out), b.place(out), b.shape(in), b.shape(out),
                               node.as<AveragePoolAttributes>(), simulate));
}

void emit_depth_to_space(ProgramBuilder& b, const Node& node) {
  const int in = node.inputs[0], out = node.output;
  Place source = b.as_meant(in, out);
  if (!source.dense()) {
    const Place copy = b.scratch(b.rows(in), source.channels, source.dtype);
    b.add(make_copy_step(b.on(), source, copy, b.rows(in)));
    source = copy;
  }
  b.add(make_scatter_step(b.on(), source, b.place(out), b.shape(in),
                          node.as<DepthToSpaceAttributes>()));
}

void emit_upsample(ProgramBuilder& b, const Node& node) {
  const int in = node.inputs[0], out = node.output;
  b.add(make_upsample_step(b.on(), b.as_meant(in, out), b.place(out), b.shape(in),
                           node.as<UpsampleAttributes>().scale));
}

void emit_concat(ProgramBuilder& b, const Node& node) {
  int64_t channel = 0;
  for (const int t : node.inputs) {
    const Place slice = ProgramBuilder::part(b.place(node.output), channel, b.shape(t)[3]);
    channel += b.shape(t)[3];
    if (b.place(t).storage == slice.storage && b.place(t).byte_offset == slice.byte_offset) {
      ++b.stats().concats_in_place;
      continue;
    }
    ++b.stats().concat_copies;
    b.move(t, b.place(t), node.output, slice);
  }
}

void emit_add(ProgramBuilder& b, const Node& node) {
  const int out = node.output;
  const Place x = b.as_meant(node.inputs[0], out);
  const Place y = b.as_meant(node.inputs[1], out);
  const float factor = node.as<AddAttributes>().residual_scale;
  if (b.integer())
    b.add(make_integer_add_step(x, y, b.place(out), b.rows(out), factor));
  else
    b.add(make_add_step(b.on(), x, y, b.place(out), b.rows(out), b.meaning(out), factor));
}

void emit_activation(ProgramBuilder& b, const Node& node) {
  const int in = node.inputs[0], out = node.output;
  b.add(make_map_step(b.on(), b.place(in), b.meaning(in), b.place(out), b.meaning(out), b.rows(out),
                      node.activation()));
}

void emit_slice(ProgramBuilder& b, const Node& node) {
  const int in = node.inputs[0], out = node.output;
  const Place from =
      ProgramBuilder::part(b.place(in), node.as<SliceAttributes>().begin, b.shape(out)[3]);
  const Place& to = b.place(out);
  if (to.storage != from.storage || to.byte_offset != from.byte_offset) b.move(in, from, out, to);
}

void emit_gather(ProgramBuilder& b, const Node& node) {
  const int in = node.inputs[0], out = node.output;
  b.add(make_gather_step(b.on(), b.as_meant(in, out), b.place(out), b.rows(out),
                         node.as<GatherAttributes>().channels));
}

// Where a result that is computed in floats goes.
Place float_result(ProgramBuilder& b, int t) {
  return b.quantized(t) ? b.scratch(b.rows(t), b.shape(t)[-1], b.float_type()) : b.place(t);
}

// In integers where both inputs and the output are held so, else in floats.
void emit_multiply(ProgramBuilder& b, const Node& node) {
  const int x = node.inputs[0], factor = node.inputs[1], out = node.output;
  const int64_t images = b.shape(out)[0], pixels = b.rows(out) / images;
  const bool per_image = b.shape(factor) != b.shape(x);
  if (b.integer()) {
    b.add(make_integer_multiply_step(
        b.place(x), b.place(factor), b.place(out), images, pixels, per_image,
        static_cast<double>(b.info(x).scale()) * b.info(factor).scale() / b.info(out).scale()));
    return;
  }
  const bool integers = b.quantized(x) && b.quantized(factor) && b.quantized(out);
  const Place px = integers ? b.place(x) : b.as_float(x);
  const Place pf = integers ? b.place(factor) : b.as_float(factor);
  const Place to = integers ? b.place(out) : float_result(b, out);
  const auto meaning = [&](int t) { return integers ? b.meaning(t) : Meaning{}; };
  b.add(make_multiply_step(b.on(), px, meaning(x), pf, meaning(factor), to, meaning(out), images,
                           pixels, per_image));
  if (!integers && b.quantized(out)) b.from_float(to, out);
}

// Likewise.
void emit_global_avg_pool(ProgramBuilder& b, const Node& node) {
  const int in = node.inputs[0], out = node.output;
  if (b.integer()) {
    b.add(make_integer_average_step(b.place(in), b.place(out), b.shape(in),
                                    static_cast<double>(b.info(in).scale()) / b.info(out).scale()));
    return;
  }
  const bool integers = b.quantized(in) && b.quantized(out);
  const Place source = integers ? b.place(in) : b.as_float(in);
  const Place result = integers ? b.place(out) : float_result(b, out);
  const auto meaning = [&](int t) { return integers ? b.meaning(t) : Meaning{}; };
  b.add(make_global_avg_pool_step(b.on(), source, meaning(in), result, meaning(out), b.shape(in)));
  if (!integers && b.quantized(out)) b.from_float(result, out);
}

// Has no integer form: converted before and after.
void emit_softmax(ProgramBuilder& b, const Node& node) {
  const int out = node.output;
  const Place source = b.as_float(node.inputs[0]);
  const Place result = float_result(b, out);
  b.add(make_softmax_step(b.on(), source, result, b.rows(out)));
  if (b.quantized(out)) b.from_float(result, out);
}

// A head output in 32-bit head steps.
Place as_head(ProgramBuilder& b, int t) {
  if (b.place(t).dtype == DType::kI32 && b.place(t).dense()) return b.place(t);
  const Place copy = b.scratch(b.rows(t), b.shape(t)[-1], DType::kI32);
  if (b.place(t).dtype == DType::kI32)
    b.add(make_copy_step(b.on(), b.place(t), copy, b.rows(t)));
  else
    b.add(make_widen_step(b.place(t), b.info(t).scale(), copy, b.rows(t)));
  return copy;
}

void emit_decode(ProgramBuilder& b, const Node& node) {
  std::vector<Place> sources;
  std::vector<Shape> shapes;
  for (const int t : node.inputs) {
    sources.push_back(b.integer() ? as_head(b, t) : b.as_float(t));
    shapes.push_back(b.shape(t));
  }
  const auto& a = node.as<DecodeAttributes>();
  if (b.integer())
    b.add(make_integer_decode_step(sources, shapes, b.place(node.output), a));
  else
    b.add(make_decode_step(b.on(), sources, shapes, b.place(node.output), a));
}

constexpr NodeSteps kSteps[] = {{NodeKind::kInput, emit_input, false},
                                {NodeKind::kConv, emit_conv},
                                {NodeKind::kDeconv, emit_conv},
                                {NodeKind::kMaxPool, emit_max_pool},
                                {NodeKind::kAveragePool, emit_average_pool},
                                {NodeKind::kUpsample, emit_upsample},
                                {NodeKind::kDepthToSpace, emit_depth_to_space},
                                {NodeKind::kConcat, emit_concat},
                                {NodeKind::kAdd, emit_add},
                                {NodeKind::kMultiply, emit_multiply},
                                {NodeKind::kActivation, emit_activation},
                                {NodeKind::kSlice, emit_slice},
                                {NodeKind::kGather, emit_gather},
                                {NodeKind::kGlobalAvgPool, emit_global_avg_pool},
                                {NodeKind::kSoftmax, emit_softmax},
                                {NodeKind::kDecode, emit_decode, false}};

}  // namespace

const NodeSteps& steps_of(NodeKind kind) {
  const NodeSteps* steps = row_of(kSteps, kind);
  check(steps != nullptr, "engine: nodes of kind {} are not run", name_of(kind));
  return *steps;
}

}  // namespace sextant::deploy
