#include "deploy/engine/conv_int8_step.h"

#include "deploy/graph/ranges.h"
#include "kernels/conv_int8.h"

namespace sextant::deploy {
namespace {

// Of sums, the weights as they are.
kernels::cpu::ConvInt8 packed(const ConvSpec& spec) {
  if (spec.sums) return {shape_of(spec), spec.weight.data<int8_t>()};
  return {shape_of(spec), quantize_weight(spec.weight, spec.weight_scale).data()};
}

class ConvInt8Step : public Step {
 public:
  explicit ConvInt8Step(const ConvSpec& spec)
      : source_(spec.source), destination_(spec.destination), conv_(packed(spec)) {
    kind = "conv";
    storages = {source_.storage, destination_.storage};
    form_.shape = shape_of(spec);
    flops = form_.shape.flops();
    weight_bytes = conv_.weight_bytes();
    form_.x_type = source_.dtype;
    form_.y_type = destination_.dtype;
    form_.x_pitch = source_.pitch;
    form_.y_pitch = destination_.pitch;
    if (spec.sums) return;
    folded_ = fold_scales(spec);
    form_.bias = folded_.bias.data();
    form_.factor = folded_.factor.data();
    form_.epilogue = folded_.epilogue;
    if (spec.residual) {
      residual_ = spec.residual_source;
      form_.residual_pitch = residual_.pitch;
      storages.push_back(residual_.storage);
    }
    weight_bytes += 8 * form_.shape.oc;
  }

  void run(const Bases& bases) override {
    kernels::ConvInt8Forward p = form_;
    p.x = source_.at(bases);
    p.y = destination_.at(bases);
    if (residual_.storage >= 0) p.residual = residual_.at(bases);
    conv_(p);
  }

 private:
  Place source_, destination_, residual_;
  kernels::cpu::ConvInt8 conv_;
  FoldedScales folded_;
  kernels::ConvInt8Forward form_;
};

}  // namespace

std::unique_ptr<Step> make_conv_int8_step(const ConvSpec& spec) {
  return std::make_unique<ConvInt8Step>(spec);
}

}  // namespace sextant::deploy
