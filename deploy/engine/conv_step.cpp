#include "deploy/engine/conv_step.h"

#include <cstring>
#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>

#include "deploy/engine/conv_int8_step.h"
#include "deploy/graph/ranges.h"
#include "kernels/backend.h"

namespace sextant::deploy {
namespace {

using Memory = dnnl::memory;

// Runs f; a oneDNN failure becomes an Error that says where.
template <class F>
auto onednn(const char* what, const F& f) {
  try {
    return f();
  } catch (const dnnl::error& e) {
    fail("oneDNN: {}: {} (status {})", what, e.message, static_cast<int>(e.status));
  }
}

const dnnl::engine& cpu_engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

Memory::data_type type_of(DType t) {
  switch (t) {
    case DType::kU8:
      return Memory::data_type::u8;
    case DType::kI8:
      return Memory::data_type::s8;
    case DType::kI32:
      return Memory::data_type::s32;
    default:
      return Memory::data_type::f32;
  }
}

void append_activation(dnnl::post_ops& ops, Activation a, float scale) {
  using dnnl::algorithm;
  switch (a) {
    case Activation::kIdentity:
      return;
    case Activation::kReLU:
      return ops.append_eltwise(scale, algorithm::eltwise_relu, 0.0f, 0.0f);
    case Activation::kLeakyReLU:
      return ops.append_eltwise(scale, algorithm::eltwise_relu, kernels::kLeakySlope, 0.0f);
    case Activation::kSiLU:
      return ops.append_eltwise(scale, algorithm::eltwise_swish, 1.0f, 0.0f);
    case Activation::kHardswish:
      return ops.append_eltwise(scale, algorithm::eltwise_hardswish, 0.0f, 0.0f);
    case Activation::kSigmoid:
      return ops.append_eltwise(scale, algorithm::eltwise_logistic, 0.0f, 0.0f);
    case Activation::kMish:
      return ops.append_eltwise(scale, algorithm::eltwise_mish, 0.0f, 0.0f);
  }
}

class ConvStep : public Step {
 public:
  explicit ConvStep(const ConvSpec& spec) : spec_(spec), stream_(cpu_engine()) {
    kind = "conv";
    storages = {spec.source.storage, spec.destination.storage};
    const Shape w = spec.weight.shape();
    flops = 2.0 * static_cast<double>(spec.batch * spec.out_height * spec.out_width) *
            static_cast<double>(spec.weight.numel());
    folded_.epilogue = spec.epilogue;
    if (spec.integer && !spec.sums) folded_ = fold_scales(spec);
    if (spec.integer && spec.simulate) requantize_ = requantization();
    onednn("convolution", [&] { build(w); });
  }

  void run(const Bases& bases) override {
    const Place& target = spec_.simulate && spec_.integer ? sums_ : spec_.destination;
    source_.set_data_handle(spec_.source.at(bases));
    destination_.set_data_handle(target.at(bases));
    onednn("convolution", [&] { primitive_.execute(stream_, arguments_); });
    if (spec_.simulate && spec_.integer) {
      auto* y = spec_.destination.as<float>(bases);
      requantize_.sums = sums_.as<float>(bases);
      requantize_.residual = spec_.residual ? y : nullptr;
      kernels::backend(Device::kCpu).requantize_forward({requantize_, y});
    }
  }

  // A simulation keeps its sums apart, since the residual waits in the destination.
  void set_sums(const Place& place) {
    sums_ = place;
    storages.push_back(place.storage);
  }

 private:
  kernels::Requantize requantization() const {
    return {.bias = folded_.bias.data(),
            .factor = folded_.factor.data(),
            .rows = spec_.batch * spec_.out_height * spec_.out_width,
            .channels = spec_.weight.dim(0),
            .epilogue = folded_.epilogue,
            .round = spec_.round,
            .low = spec_.destination_unsigned ? 0.0f : -128.0f,
            .high = spec_.destination_unsigned ? 255.0f : 127.0f};
  }

  void build(const Shape& w) {
    const bool integer = spec_.integer && !spec_.simulate;
    const int64_t g = spec_.groups;
    const Memory::dims weight_dims =
        g == 1 ? Memory::dims{w[0], w[3], w[1], w[2]} : Memory::dims{g, w[0] / g, w[3], w[1], w[2]};
    const auto weight_tag = g == 1 ? Memory::format_tag::ohwi : Memory::format_tag::gohwi;
    const auto weight_type = integer ? Memory::data_type::s8 : Memory::data_type::f32;
    const auto nhwc = Memory::format_tag::nhwc;
    const Memory::desc source({spec_.batch, w[3] * g, spec_.height, spec_.width},
                              type_of(spec_.source.dtype), nhwc);
    const Memory::desc destination({spec_.batch, w[0], spec_.out_height, spec_.out_width},
                                   type_of(spec_.destination.dtype), nhwc);
    const Memory::desc weight_any(weight_dims, weight_type, Memory::format_tag::any);
    const Memory::desc bias({w[0]}, Memory::data_type::f32, Memory::format_tag::x);
    const Memory::desc no_bias;
    const bool plain = spec_.sums || (spec_.simulate && spec_.integer);
    const bool with_bias = !plain && spec_.bias.defined();
    const dnnl::convolution_forward::desc op(
        dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct, source, weight_any,
        with_bias ? bias : no_bias, destination, {spec_.stride, spec_.stride},
        {spec_.padding, spec_.padding}, {spec_.padding, spec_.padding});
    const dnnl::convolution_forward::primitive_desc chosen(op, attributes(), cpu_engine());
    implementation = chosen.impl_info_str();
    primitive_ = dnnl::convolution_forward(chosen);

    source_ = Memory(chosen.src_desc(), cpu_engine(), nullptr);
    destination_ = Memory(chosen.dst_desc(), cpu_engine(), nullptr);
    weight_ = Memory(chosen.weights_desc(), cpu_engine());
    reorder_weight(Memory::desc(weight_dims, weight_type, weight_tag));
    weight_bytes = static_cast<int64_t>(chosen.weights_desc().get_size());
    arguments_ = {
        {DNNL_ARG_SRC, source_}, {DNNL_ARG_WEIGHTS, weight_}, {DNNL_ARG_DST, destination_}};
    if (with_bias) {
      bias_ = Memory(bias, cpu_engine());
      const float* from = spec_.integer ? folded_.bias.data() : spec_.bias.f32();
      std::memcpy(bias_.get_data_handle(), from, static_cast<size_t>(w[0]) * sizeof(float));
      arguments_[DNNL_ARG_BIAS] = bias_;
      weight_bytes += w[0] * 4;
    }
    spec_.bias = Tensor();
    spec_.weight = Tensor();
  }

  dnnl::primitive_attr attributes() const {
    dnnl::primitive_attr attr;
    dnnl::post_ops ops;
    if (spec_.sums || (spec_.integer && spec_.simulate)) return attr;
    if (spec_.integer) attr.set_output_scales(1 << 1, folded_.factor);
    const kernels::Epilogue& e = folded_.epilogue;
    if (spec_.residual && e.residual_before_activation) ops.append_sum(e.residual_scale);
    append_activation(ops, e.activation, e.activation_scale);
    if (spec_.residual && !e.residual_before_activation) ops.append_sum(e.residual_scale);
    attr.set_post_ops(ops);
    return attr;
  }

  void reorder_weight(const Memory::desc& ours) {
    if (!spec_.integer || spec_.sums) {  // numbers as they are
      reorder(Memory(ours, cpu_engine(), spec_.weight.raw()));
      return;
    }
    std::vector<int8_t> q = quantize_weight(spec_.weight, spec_.weight_scale);
    if (!spec_.simulate) {
      reorder(Memory(ours, cpu_engine(), q.data()));
      return;
    }
    std::vector<float> values(q.begin(), q.end());
    reorder(Memory(ours, cpu_engine(), values.data()));
  }
  void reorder(Memory from) {
    dnnl::reorder(from, weight_).execute(stream_, from, weight_);
    stream_.wait();
  }

  ConvSpec spec_;
  FoldedScales folded_;  // in f32 the epilogue only
  kernels::Requantize requantize_;
  Place sums_;
  dnnl::stream stream_;
  dnnl::convolution_forward primitive_;
  Memory source_, destination_, weight_, bias_;
  std::unordered_map<int, Memory> arguments_;
};

// Whether oneDNN adds products of 8-bit integers in 32 bits here. Without VNNI it adds pairs of
// them in 16 bits, saturating.
bool has_exact_int8() {
  const auto isa = static_cast<unsigned>(dnnl::get_effective_cpu_isa());
  const auto has = [isa](dnnl::cpu_isa wanted) {
    return (isa & static_cast<unsigned>(wanted)) == static_cast<unsigned>(wanted);
  };
  return has(dnnl::cpu_isa::avx512_core_vnni) || has(dnnl::cpu_isa::avx2_vnni);
}

}  // namespace

bool reads_residual_apart(const ConvSpec& spec) {
  return spec.integer && !spec.simulate && !has_exact_int8();
}

std::unique_ptr<Step> make_conv_step(const ConvSpec& spec, const Place* sums) {
  if (reads_residual_apart(spec)) return make_conv_int8_step(spec);
  auto step = std::make_unique<ConvStep>(spec);
  if (sums) step->set_sums(*sums);
  return step;
}

std::unique_ptr<Step> make_exact_sums_step(const ConvSpec& spec, int64_t largest) {
  auto step = make_conv_step(spec, nullptr);
  const bool exact = step->implementation == "own" || largest < (int64_t{1} << 24) ||
                     step->implementation.starts_with("brgconv");
  return exact ? std::move(step) : make_conv_int8_step(spec);
}

}  // namespace sextant::deploy
