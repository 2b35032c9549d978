// SPDX-License-Identifier: Apache-2.0
// The convolution in f32 behind its contract: which algorithm, groups, pitches.
#include "kernels/cpu/conv/f32.h"
#include "kernels/cpu/f32_only.h"
#include "kernels/cpu/kernels.h"

namespace sextant::kernels::cpu {
ConvF32::ConvF32(const ConvShape& shape, const float* w, ConvAlgorithm algorithm)
    : ConvF32(shape, dense_weights(shape, w), algorithm) {}

ConvF32::ConvF32(const ConvShape& shape, const WeightView& w, ConvAlgorithm algorithm)
    : shape_(shape) {
  if (is_depthwise(shape)) {
    check(algorithm == ConvAlgorithm::kAuto || algorithm == ConvAlgorithm::kDirect,
          "ConvF32: a depthwise convolution by {}", sextant::name_of(algorithm));
    algorithm_ = ConvAlgorithm::kDirect;
    groups_.push_back(make_depthwise(depthwise_window_of(shape), w));
    return;
  }
  const Window window = window_of(shape);
  algorithm_ = algorithm == ConvAlgorithm::kAuto ? fastest(window) : algorithm;
  for (int64_t g = 0; g < shape.groups; ++g)
    groups_.push_back(make_conv(window, w.from(g * window.oc), algorithm_));
}

ConvF32::ConvF32(ConvF32&&) noexcept = default;
ConvF32& ConvF32::operator=(ConvF32&&) noexcept = default;
ConvF32::~ConvF32() = default;

void ConvF32::operator()(const ConvForward& p) const {
  check_f32("ConvF32", p.dtype);
  check(p.shape == shape_, "ConvF32: called with another shape than it was made for");
  check(!p.accumulate ||
            (!p.bias && !p.gain && !p.residual && p.epilogue.activation == Activation::kIdentity),
        "ConvF32: accumulate takes no bias, residual or activation");
  const ConvShape& s = shape_;
  const int64_t calls = std::ssize(groups_), ic = s.ic / calls, oc = s.oc / calls;  // of one
  const int64_t y_pitch = p.y_pitch ? p.y_pitch : s.oc;
  F32Operands o{.x = pixels_of(f32(p.x), s.h, s.w, p.x_pitch ? p.x_pitch : s.ic),
                .y = pixels_of(f32(p.y), s.oh(), s.ow(), y_pitch),
                .bias = p.bias,
                .gain = p.gain,
                .residual = pixels_of(f32(p.residual), s.oh(), s.ow(),
                                      p.residual_pitch ? p.residual_pitch : s.oc),
                .epilogue = p.epilogue};
  if (p.accumulate) {  // what is there, times 1
    o.residual = pixels_of(f32(static_cast<const void*>(p.y)), s.oh(), s.ow(), y_pitch);
    o.epilogue = {};
  }
  for (const auto& group : groups_) {
    group->run(o);
    o.x.data += ic;
    o.y.data += oc;
    if (o.bias) o.bias += oc;
    if (o.gain) o.gain += oc;
    if (o.residual.data) o.residual.data += oc;
  }
}

int64_t ConvF32::weight_bytes() const {
  int64_t bytes = 0;
  for (const auto& group : groups_) bytes += group->weight_bytes();
  return bytes;
}

}  // namespace sextant::kernels::cpu

namespace sextant::kernels::SEXTANT_CPU {

void conv_forward(const ConvForward& p) { cpu::ConvF32(p.shape, f32(p.w))(p); }

}  // namespace sextant::kernels::SEXTANT_CPU
