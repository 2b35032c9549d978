// SPDX-License-Identifier: Apache-2.0
#include "deploy/engine/conv_step.h"

#include <algorithm>

#include "deploy/graph/ranges.h"
#include "kernels/backend.h"

namespace sextant::deploy {
namespace {

using kernels::cpu::ConvAlgorithm;

// What the steps share: where things lie.
class ConvStep : public Step {
 public:
  explicit ConvStep(const ConvSpec& spec) : source_(spec.source), destination_(spec.destination) {
    kind = "conv";
    storages = {source_.storage, destination_.storage};
    flops = shape_of(spec).flops();
    if (!spec.residual) return;
    residual_ = spec.residual_source;
    storages.push_back(residual_.storage);
  }

 protected:
  // Fields that all forms of `p` have.
  template <class P>
  void set_tensors(P& p, const Bases& bases) const {
    p.x = source_.at(bases);
    p.y = destination_.at(bases);
    p.residual = residual_.storage >= 0 ? residual_.at(bases) : nullptr;
    p.x_pitch = source_.pitch;
    p.y_pitch = destination_.pitch;
    p.residual_pitch = residual_.pitch;
  }

  Place source_, destination_, residual_;
};

class FloatStep : public ConvStep {
 public:
  explicit FloatStep(const ConvSpec& spec)
      : ConvStep(spec),
        bias_(spec.bias),
        gain_(spec.gain),
        conv_(shape_of(spec), spec.weight.f32()) {
    implementation = sextant::name_of(conv_.algorithm());
    weight_bytes = conv_.weight_bytes() + (bias_.defined() ? bias_.bytes() : 0);
    form_.shape = shape_of(spec);
    form_.bias = bias_.defined() ? bias_.f32() : nullptr;
    form_.gain = gain_.defined() ? gain_.f32() : nullptr;
    form_.epilogue = spec.epilogue;
  }

  void run(const Bases& bases) const override {
    kernels::ConvForward p = form_;
    set_tensors(p, bases);
    conv_(p);
  }

 private:
  Tensor bias_, gain_;
  kernels::cpu::ConvF32 conv_;
  kernels::ConvForward form_;
};

// Of sums, the weights as they are.
kernels::cpu::ConvInt8 packed(const ConvSpec& spec) {
  if (spec.sums) return {shape_of(spec), spec.weight.data<int8_t>()};
  return {shape_of(spec), quantize_weight(spec.weight, spec.weight_scale).data()};
}

class Int8Step : public ConvStep {
 public:
  explicit Int8Step(const ConvSpec& spec) : ConvStep(spec), conv_(packed(spec)) {
    implementation = sextant::name_of(conv_.algorithm());
    weight_bytes = conv_.weight_bytes();
    form_.shape = shape_of(spec);
    form_.x_type = source_.dtype;
    form_.y_type = destination_.dtype;
    if (spec.sums) return;
    folded_ = fold_scales(spec);
    form_.bias = folded_.bias.data();
    form_.factor = folded_.factor.data();
    gain_ = spec.gain;
    form_.gain = gain_.defined() ? gain_.f32() : nullptr;
    form_.epilogue = folded_.epilogue;
    weight_bytes += 8 * form_.shape.oc;
  }

  void run(const Bases& bases) const override {
    kernels::ConvInt8Forward p = form_;
    set_tensors(p, bases);
    conv_(p);
  }

 private:
  kernels::cpu::ConvInt8 conv_;
  FoldedScales folded_;
  Tensor gain_;
  kernels::ConvInt8Forward form_;
};

// The quantized weights as f32.
std::vector<float> integer_weights(const ConvSpec& spec) {
  const std::vector<int8_t> q = quantize_weight(spec.weight, spec.weight_scale);
  return {q.begin(), q.end()};
}

// Sums in f32, directly: exact below 2^24, which F(m x m, 3x3) is not.
class SimulatedStep : public ConvStep {
 public:
  SimulatedStep(const ConvSpec& spec, const Place& sums)
      : ConvStep(spec),
        sums_(sums),
        conv_(shape_of(spec), integer_weights(spec).data(), ConvAlgorithm::kDirect),
        folded_(fold_scales(spec)),
        gain_(spec.gain) {
    storages.push_back(sums.storage);
    weight_bytes = conv_.weight_bytes() + 8 * spec.weight.dim(0);
    shape_ = shape_of(spec);
    requantize_.bias = folded_.bias.data();
    requantize_.factor = folded_.factor.data();
    requantize_.gain = gain_.defined() ? gain_.f32() : nullptr;
    requantize_.epilogue = folded_.epilogue;
    requantize_.rows = shape_.n * shape_.oh() * shape_.ow();
    requantize_.channels = shape_.oc;
    requantize_.round = spec.round;
    requantize_.low = spec.destination_unsigned ? 0.0f : -128.0f;
    requantize_.high = spec.destination_unsigned ? 255.0f : 127.0f;
  }

  void run(const Bases& bases) const override {
    auto* const sums = sums_.as<float>(bases);
    conv_({.shape = shape_, .x = source_.at(bases), .y = sums, .x_pitch = source_.pitch});
    kernels::Requantize form = requantize_;
    form.sums = sums;
    std::vector<float> dense_residual;
    if (residual_.storage >= 0) {
      dense_residual.resize(static_cast<size_t>(shape_.y_numel()));
      copy_rows(residual_.as<float>(bases), residual_.pitch, dense_residual.data(), form.channels);
      form.residual = dense_residual.data();
    }
    kernels::backend(Device::kCpu).requantize_forward({form, sums});
    copy_rows(sums, form.channels, destination_.as<float>(bases), destination_.pitch);
  }

 private:
  void copy_rows(const float* from, int64_t from_pitch, float* to, int64_t to_pitch) const {
    for (int64_t r = 0; r < requantize_.rows; ++r)
      std::copy_n(from + r * from_pitch, requantize_.channels, to + r * to_pitch);
  }

  Place sums_;
  kernels::cpu::ConvF32 conv_;
  FoldedScales folded_;
  Tensor gain_;
  kernels::ConvShape shape_;
  kernels::Requantize requantize_;
};

}  // namespace

std::unique_ptr<Step> make_conv_step(const ConvSpec& spec) {
  if (spec.integer) return std::make_unique<Int8Step>(spec);
  return std::make_unique<FloatStep>(spec);
}

std::unique_ptr<Step> make_simulated_conv_step(const ConvSpec& spec, const Place& sums) {
  return std::make_unique<SimulatedStep>(spec, sums);
}

}  // namespace sextant::deploy
