// SPDX-License-Identifier: Apache-2.0
// Convolutions and transposed convolutions in an engine.
#include "deploy/engine/conv_step.h"
#include "deploy/engine/device_conv_step.h"
#include "deploy/engine/integer_steps.h"
#include "deploy/engine/node_steps.h"
#include "deploy/graph/conv_layers.h"
#include "deploy/graph/ranges.h"
#include "deploy/integer/lower.h"

namespace sextant::deploy {
namespace {

ConvSpec spec_of(ProgramBuilder& b, const Node& node, const ConvForm& form, bool integer) {
  const int in = node.inputs[0];
  const int out = node.output;
  const ConvAttributes& a = form.attributes;
  const Shape& pixels = b.shape(form.scattered ? in : out);
  ConvSpec spec;
  spec.integer = integer;
  spec.simulate = integer && b.config().simulate;
  spec.source = integer ? b.place(in) : b.as_float(in);
  spec.batch = b.shape(in)[0];
  spec.height = b.shape(in)[1];
  spec.width = b.shape(in)[2];
  spec.out_height = pixels[1];
  spec.out_width = pixels[2];
  spec.stride = a.stride;
  spec.padding = a.padding;
  spec.groups = a.groups;
  spec.epilogue = epilogue_of(node);
  spec.residual = a.residual;
  spec.weight = form.weight;
  spec.bias = form.bias;
  spec.gain = form.gain;
  if (!integer) return spec;
  spec.source_scale = b.info(in).scale();
  spec.destination_scale = b.quantized(out) ? b.info(out).scale() : 1.0f;
  spec.destination_unsigned = b.info(out).is_unsigned;
  spec.round = b.quantized(out);
  spec.weight_scale = form.weight_scale;
  return spec;
}

// In floats or int8.
void emit_scaled_conv(ProgramBuilder& b, const Node& node) {
  const int out = node.output;
  const ConvForm form(node);
  const bool integer = b.int8() && runs_in_int8(b.graph(), node);
  ConvSpec spec = spec_of(b, node, form, integer);
  // what the convolution itself writes: the tensor, or scratch to scatter or convert from
  const bool convert = !integer && b.quantized(out);
  const int64_t channels = spec.weight.dim(0);
  const int64_t pixels = spec.batch * spec.out_height * spec.out_width;
  const DType wanted = integer ? b.held_as(out) : b.float_type();
  spec.destination = form.scattered || convert ? b.scratch(pixels, channels, wanted) : b.place(out);
  if (spec.residual)
    spec.residual_source = integer ? b.as_meant(node.inputs[1], out) : b.as_float(node.inputs[1]);
  if (b.cuda())
    b.add(make_device_conv_step(spec));
  else if (spec.simulate)
    b.add(make_simulated_conv_step(spec, b.scratch(pixels, channels, DType::kF32)));
  else
    b.add(make_conv_step(spec));

  Place result = spec.destination;
  if (form.scattered) {
    const Place target =
        convert ? b.scratch(b.rows(out), b.shape(out)[3], b.float_type()) : b.place(out);
    b.add(make_scatter_step(b.on(), result, target, b.shape(node.inputs[0])));
    result = target;
  }
  if (convert) b.from_float(result, out);
}

// Sums, then their rescaling, which also adds the residual from where it is.
void emit_integer_conv(ProgramBuilder& b, const Node& node) {
  const int out = node.output;
  const bool deconv = node.is<DeconvAttributes>();
  IntegerConv conv;
  const Rescale rescale = lower_node(b.graph(), node, b.shapes(), conv);
  const int64_t channels = rescale.channels();
  const Place sums = b.scratch(conv.out_rows(), channels, DType::kI32);
  b.add(make_sums_step(conv, b.place(node.inputs[0]), sums, b.config().plain));
  const Place result = deconv ? b.scratch(conv.out_rows(), channels, b.held_as(out)) : b.place(out);
  const bool residual = node.has_residual();
  const Place r = residual ? b.as_meant(node.inputs[1], out) : Place{};
  b.add(make_rescale_step(rescale, sums, residual ? &r : nullptr, result, conv.out_rows()));
  if (deconv) b.add(make_scatter_step(b.on(), result, b.place(out), b.shape(node.inputs[0])));
}

}  // namespace

void emit_conv(ProgramBuilder& b, const Node& node) {
  if (b.integer())
    emit_integer_conv(b, node);
  else
    emit_scaled_conv(b, node);
}

}  // namespace sextant::deploy
