// SPDX-License-Identifier: Apache-2.0
// The convolution in int8 behind its contract: which algorithm, groups, pitches.
#include "kernels/cpu/conv/int8.h"
#include "kernels/cpu/conv/winograd_cost.h"
#include "kernels/cpu/kernels.h"

namespace sextant::kernels::cpu {
namespace {

// Transforms cost less here beside products than in f32, 16-bit integers being half as wide; with
// VNNI a direct product costs half of one at a position.
ConvAlgorithm fastest(const Window& w, const int8_t* weights) {
  if (!can_winograd(w)) return ConvAlgorithm::kDirect;
  const double direct = direct_cost(w) / (has_vnni() ? 2.0 : 1.0);
  const double by2 = winograd_cost(w, 2), by4 = winograd_cost(w, 4);
  if (by4 < direct && by4 < by2 && can_winograd_int8(w, weights, 4))
    return ConvAlgorithm::kWinograd4;
  if (by2 < direct && can_winograd_int8(w, weights, 2)) return ConvAlgorithm::kWinograd2;
  return ConvAlgorithm::kDirect;
}

}  // namespace

ConvInt8::ConvInt8(const ConvShape& shape, const int8_t* w, ConvAlgorithm algorithm)
    : shape_(shape) {
  if (is_depthwise(shape)) {
    check(algorithm == ConvAlgorithm::kAuto || algorithm == ConvAlgorithm::kDirect,
          "ConvInt8: a depthwise convolution by {}", sextant::name_of(algorithm));
    algorithm_ = ConvAlgorithm::kDirect;
    groups_.push_back(make_depthwise_int8(depthwise_window_of(shape), w));
    return;
  }
  const Window window = window_of(shape);
  const int64_t filters = window.oc * window.kh * window.kw * window.ic;
  algorithm_ = algorithm;
  for (int64_t g = 0; algorithm_ == ConvAlgorithm::kAuto && g < shape.groups; ++g) {
    const ConvAlgorithm one = fastest(window, w + g * filters);
    if (one == ConvAlgorithm::kDirect || g + 1 == shape.groups) algorithm_ = one;
  }
  for (int64_t g = 0; g < shape.groups; ++g) {
    const int8_t* const filter = w + g * filters;
    groups_.push_back(
        algorithm_ == ConvAlgorithm::kDirect
            ? make_direct_int8(window, filter)
            : make_winograd_int8(window, filter, algorithm_ == ConvAlgorithm::kWinograd2 ? 2 : 4));
  }
}

ConvInt8::ConvInt8(ConvInt8&&) noexcept = default;
ConvInt8& ConvInt8::operator=(ConvInt8&&) noexcept = default;
ConvInt8::~ConvInt8() = default;

void ConvInt8::operator()(const ConvInt8Forward& p) const {
  check(p.shape == shape_, "ConvInt8: called with another shape than it was made for");
  check(p.x_type == DType::kI8 || p.x_type == DType::kU8, "ConvInt8: x is {}, must be I8 or U8",
        name_of(p.x_type));
  check(p.y_type == DType::kI8 || p.y_type == DType::kU8 || p.y_type == DType::kF32 ||
            p.y_type == DType::kI32,
        "ConvInt8: y is {}, must be I8, U8, F32 or I32", name_of(p.y_type));
  const ConvShape& s = shape_;
  const auto pitch = [](int64_t given, int64_t channels) { return given ? given : channels; };
  const int64_t calls = std::ssize(groups_), y_size = size_of(p.y_type);
  const int64_t ic = s.ic / calls, oc = s.oc / calls;  // of one
  for (size_t g = 0; g < groups_.size(); ++g) {
    const int64_t group = static_cast<int64_t>(g), first = group * oc;
    const auto y_of = [&](const void* y) {
      return static_cast<const std::byte*>(y) + first * y_size;
    };
    groups_[g]->run({.x = static_cast<const std::byte*>(p.x) + group * ic,
                     .y = const_cast<std::byte*>(y_of(p.y)),
                     .residual = p.residual ? y_of(p.residual) : nullptr,
                     .x_at = strides_of(s.h, s.w, pitch(p.x_pitch, s.ic)),
                     .y_at = strides_of(s.oh(), s.ow(), pitch(p.y_pitch, s.oc)),
                     .residual_at = strides_of(s.oh(), s.ow(), pitch(p.residual_pitch, s.oc)),
                     .bias = p.bias ? p.bias + first : nullptr,
                     .factor = p.factor ? p.factor + first : nullptr,
                     .gain = p.gain ? p.gain + first : nullptr,
                     .x_type = p.x_type,
                     .y_type = p.y_type,
                     .epilogue = p.epilogue});
  }
}

int64_t ConvInt8::weight_bytes() const {
  int64_t bytes = 0;
  for (const auto& group : groups_) bytes += group->weight_bytes();
  return bytes;
}

}  // namespace sextant::kernels::cpu

namespace sextant::kernels::SEXTANT_CPU {

void conv_int8_forward(const ConvInt8Forward& p) { cpu::ConvInt8(p.shape, p.w)(p); }

}  // namespace sextant::kernels::SEXTANT_CPU
