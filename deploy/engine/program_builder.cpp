#include "deploy/engine/program_builder.h"

#include <algorithm>

#include "deploy/engine/conv_step.h"
#include "deploy/engine/data_steps.h"
#include "deploy/engine/device_conv_step.h"
#include "deploy/engine/integer_steps.h"
#include "deploy/graph/conv_layers.h"
#include "deploy/graph/ranges.h"
#include "deploy/integer/lower.h"

namespace sextant::deploy {
namespace {

class Builder {
 public:
  Builder(const Graph& graph, const EngineConfig& config, const BuildOptions& options)
      : graph_(graph),
        config_(config),
        options_(options),
        on_(kernels::backend(config.device)),
        cuda_(config.device == Device::kCuda),
        float_(config.precision == Precision::kFloat16 ? DType::kF16 : DType::kF32),
        integer_(config.precision == Precision::kInteger),
        int8_(integer_ || config.precision == Precision::kInt8) {}

  Program build() {
    validate(graph_);
    check_device();
    consumers_ = graph_.consumers();
    producers_ = graph_.producers();
    program_.shapes = infer_shapes(graph_, config_.batch, config_.height, config_.width);
    check_ranges();
    assign_places();
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      if (!options_.nodes.empty() && !options_.nodes[i]) continue;
      node_ = static_cast<int>(i);
      emit(graph_.nodes[i]);
    }
    if (cuda_) emit_result();
    finish();
    return std::move(program_);
  }

 private:
  // ---- tensors

  const Shape& shape(int t) const { return program_.shapes[static_cast<size_t>(t)]; }
  int64_t rows(int t) const { return shape(t).numel() / shape(t)[-1]; }
  const TensorInfo& info(int t) const { return graph_.tensors[static_cast<size_t>(t)]; }
  const Place& place(int t) const { return program_.tensors[static_cast<size_t>(t)]; }
  bool quantized(int t) const { return program_.quantized[static_cast<size_t>(t)]; }
  Meaning meaning(int t) const {
    return {
        .quantized = quantized(t), .is_unsigned = info(t).is_unsigned, .scale = info(t).scale()};
  }
  // Numbers of one tensor mean the same in the other.
  bool same_meaning(int a, int b) const {
    if (!quantized(a) || !quantized(b)) return quantized(a) == quantized(b);
    return info(a).amax == info(b).amax && info(a).is_unsigned == info(b).is_unsigned;
  }
  NodeKind made_by(int t) const {
    return graph_.nodes[static_cast<size_t>(producers_[static_cast<size_t>(t)])].kind;
  }

  void check_device() const {
    check(cuda_ || config_.precision != Precision::kFloat16,
          "engine: precision fp16 needs device cuda");
    check(!cuda_ || !integer_, "engine: precision integer needs device cpu");
    check(!cuda_ || !config_.simulate, "engine: simulate needs device cpu");
    check(!config_.float_images || config_.precision == Precision::kFloat32,
          "engine: float_images needs precision fp32");
  }

  void check_ranges() {
    const std::string source = graph_.source.empty() ? "the model" : graph_.source;
    for (const Node& node : graph_.nodes)
      check(node.kind != NodeKind::kBatchNorm, "{}: node '{}' is not fused; fuse() first", source,
            node.name);
    program_.quantized.assign(graph_.tensors.size(), false);
    program_.scales.assign(graph_.tensors.size(), 1.0f);
    if (!int8_) return;
    check(!integer_ || !config_.simulate, "engine: simulate needs precision int8");
    check(graph_.quantized(), "{}: has no activation ranges; run sextant quantize", source);
    for (const Node& node : graph_.nodes)
      check(!node.has_weight() || node.precision == Precision::kFloat32 ||
                !info(node.inputs[0]).has_range() || !node.weight_scale.empty(),
            "{}: node '{}' has no weight scales; run sextant quantize", source, node.name);
    if (integer_) check_integer(graph_);
    for (size_t t = 0; t < graph_.tensors.size(); ++t) {
      program_.quantized[t] = integer_ || graph_.tensors[t].has_range();
      if (program_.quantized[t])
        program_.scales[t] = static_cast<float>(integer_scale(graph_, static_cast<int>(t)));
    }
  }

  DType held_as(int t) const {
    if (made_by(t) == NodeKind::kDecode && !quantized(t)) return DType::kF32;
    if (!quantized(t) || config_.simulate) return float_;
    if (!info(t).has_range()) return DType::kI32;  // head outputs and result in integers
    return info(t).is_unsigned ? DType::kU8 : DType::kI8;
  }

  int new_storage(int64_t bytes) {
    storage_bytes_.push_back(bytes);
    return static_cast<int>(storage_bytes_.size()) - 1;
  }
  static Place dense(int storage, int64_t channels, DType dtype) {
    return {.storage = storage, .pitch = channels, .channels = channels, .dtype = dtype};
  }
  Place scratch(int64_t row_count, int64_t channels, DType dtype) {
    return dense(new_storage(row_count * channels * size_of(dtype)), channels, dtype);
  }
  // Channels [begin, begin + count) of a place.
  static Place part(Place p, int64_t begin, int64_t count) {
    p.byte_offset += begin * size_of(p.dtype);
    p.channels = count;
    return p;
  }

  // Whether a concat's input can lie in the concat's buffer: all kernels read and write with a pitch,
  // but for what the caller holds and a fully integer decoding.
  bool fits_in_place(const Node& concat, int t) const {
    const auto& readers = consumers_[static_cast<size_t>(t)];
    const auto decodes = [&](int n) {
      return graph_.nodes[static_cast<size_t>(n)].kind == NodeKind::kDecode;
    };
    return t != graph_.output && made_by(t) != NodeKind::kInput &&
           made_by(t) != NodeKind::kDecode && same_meaning(t, concat.output) &&
           std::count(concat.inputs.begin(), concat.inputs.end(), t) == 1 &&
           !(integer_ && std::any_of(readers.begin(), readers.end(), decodes));
  }

  // Last node to first, so that a concat inside another finds its own place settled.
  void assign_places() {
    program_.tensors.resize(graph_.tensors.size());
    storage_bytes_ = {0, 0};
    std::vector<bool> placed(graph_.tensors.size(), false);
    for (size_t i = graph_.nodes.size(); i-- > 0;) {
      const Node& node = graph_.nodes[i];
      const size_t out = static_cast<size_t>(node.output);
      if (!placed[out]) {
        const bool external = node.kind == NodeKind::kInput &&
                              (config_.float_images || held_as(node.output) == DType::kU8);
        const int64_t bytes = shape(node.output).numel() * size_of(held_as(node.output));
        const bool result = node.kind == NodeKind::kDecode && !integer_;
        const int storage = external ? kImages : result ? kResult : new_storage(bytes);
        program_.tensors[out] = dense(storage, shape(node.output)[-1], held_as(node.output));
        placed[out] = true;
      }
      if (node.kind != NodeKind::kConcat) continue;
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
  }

  // ---- steps

  void add(std::unique_ptr<Step> step) {
    step->node = node_;
    program_.stats.weight_bytes += step->weight_bytes;
    program_.steps.push_back(std::move(step));
  }

  // The tensor as floats: its place when it is held so, else a converted copy.
  Place as_float(int t) {
    if (!quantized(t)) return place(t);
    const Place copy = scratch(rows(t), shape(t)[-1], float_);
    add(make_map_step(on_, place(t), meaning(t), copy, {}, rows(t), Activation::kIdentity));
    return copy;
  }

  // The place of a tensor as numbers that mean what those of `like` mean: its own, or that of a
  // requantized copy. Only ranges that were not unified need one.
  Place as_meant(int t, int like) {
    if (same_meaning(t, like)) return place(t);
    const Place copy = scratch(rows(t), shape(t)[-1], held_as(like));
    requantize(t, place(t), like, copy);
    return copy;
  }
  void requantize(int t, const Place& from, int like, const Place& to) {
    auto step =
        make_map_step(on_, from, meaning(t), to, meaning(like), rows(t), Activation::kIdentity);
    step->kind = "requantize";
    ++program_.stats.requantizations;
    add(std::move(step));
  }
  // From one place to another of as many channels: a copy where both mean the same.
  void move(int t, const Place& from, int like, const Place& to) {
    if (same_meaning(t, like)) return add(make_copy_step(on_, from, to, rows(t)));
    requantize(t, from, like, to);
  }

  void emit(const Node& node) {
    const int out = node.output;
    const int in = node.inputs.empty() ? -1 : node.inputs[0];
    switch (node.kind) {
      case NodeKind::kInput:
        if (place(out).storage != kImages)
          add(make_input_step(on_, dense(kImages, 3, DType::kU8), place(out), shape(out).numel(),
                              quantized(out)));
        return;
      case NodeKind::kConv:
      case NodeKind::kDeconv:
        return integer_ ? emit_integer_conv(node) : emit_conv(node);
      case NodeKind::kMaxPool:
        return add(make_max_pool_step(on_, as_meant(in, out), place(out), shape(in), shape(out),
                                      node.attributes));
      case NodeKind::kUpsample:
        return add(make_upsample_step(on_, as_meant(in, out), place(out), shape(in),
                                      node.attributes.scale));
      case NodeKind::kConcat:
        return emit_concat(node);
      case NodeKind::kAdd: {
        const Place a = as_meant(in, out);
        const Place b = as_meant(node.inputs[1], out);
        const float factor = node.attributes.residual_scale;
        if (integer_) return add(make_integer_add_step(a, b, place(out), rows(out), factor));
        return add(make_add_step(on_, a, b, place(out), rows(out), meaning(out), factor));
      }
      case NodeKind::kActivation:
        return add(make_map_step(on_, place(in), meaning(in), place(out), meaning(out), rows(out),
                                 node.attributes.activation));
      case NodeKind::kSlice:
        return move(in, part(place(in), node.attributes.begin, shape(out)[3]), out, place(out));
      case NodeKind::kGlobalAvgPool:
      case NodeKind::kSoftmax:
        return emit_float(node);
      case NodeKind::kDecode: {
        std::vector<Place> sources;
        std::vector<Shape> shapes;
        for (const int t : node.inputs) {
          sources.push_back(integer_ ? as_head(t) : as_float(t));
          shapes.push_back(shape(t));
        }
        if (integer_)
          return add(make_integer_decode_step(sources, shapes, place(out), node.attributes));
        return add(make_decode_step(on_, sources, shapes, place(out), node.attributes));
      }
      case NodeKind::kBatchNorm:
        return;
    }
  }

  // Kinds without an integer form: converted before and after.
  void emit_float(const Node& node) {
    const int out = node.output;
    const Place source = as_float(node.inputs[0]);
    const Place target = quantized(out) ? scratch(rows(out), shape(out)[-1], float_) : place(out);
    add(node.kind == NodeKind::kSoftmax
            ? make_softmax_step(on_, source, target, rows(out))
            : make_global_avg_pool_step(on_, source, target, shape(node.inputs[0])));
    if (quantized(out))
      add(make_map_step(on_, target, {}, place(out), meaning(out), rows(out),
                        Activation::kIdentity));
  }

  void emit_concat(const Node& node) {
    int64_t channel = 0;
    for (const int t : node.inputs) {
      const Place slice = part(place(node.output), channel, shape(t)[3]);
      channel += shape(t)[3];
      if (place(t).storage == slice.storage && place(t).byte_offset == slice.byte_offset) {
        ++program_.stats.concats_in_place;
        continue;
      }
      ++program_.stats.concat_copies;
      move(t, place(t), node.output, slice);
    }
  }

  ConvSpec spec_of(const Node& node, bool integer) {
    const int in = node.inputs[0];
    const int out = node.output;
    const bool deconv = node.kind == NodeKind::kDeconv;
    ConvSpec spec;
    spec.integer = integer;
    spec.simulate = integer && config_.simulate;
    spec.source = integer ? place(in) : as_float(in);
    spec.batch = shape(in)[0];
    spec.height = shape(in)[1];
    spec.width = shape(in)[2];
    spec.out_height = deconv ? spec.height : shape(out)[1];
    spec.out_width = deconv ? spec.width : shape(out)[2];
    spec.stride = deconv ? 1 : node.attributes.stride;
    spec.padding = deconv ? 0 : node.attributes.padding;
    spec.groups = deconv ? 1 : node.attributes.groups;
    spec.epilogue = epilogue_of(node);
    spec.residual = node.attributes.residual;
    spec.weight = deconv ? deconv_as_pointwise(node.weight) : node.weight;
    spec.bias = deconv ? deconv_bias(node.bias) : node.bias;
    if (!integer) return spec;
    spec.source_scale = info(in).scale();
    spec.destination_scale = quantized(out) ? info(out).scale() : 1.0f;
    spec.destination_unsigned = info(out).is_unsigned;
    spec.round = quantized(out);
    for (int tap = 0; tap < (deconv ? 4 : 1); ++tap)
      spec.weight_scale.insert(spec.weight_scale.end(), node.weight_scale.begin(),
                               node.weight_scale.end());
    return spec;
  }

  void emit_conv(const Node& node) {
    const int out = node.output;
    const bool integer = int8_ && node.precision == Precision::kInt8 && quantized(node.inputs[0]) &&
                         (!node.attributes.residual || quantized(node.inputs[1]) == quantized(out));
    ConvSpec spec = spec_of(node, integer);
    // what the convolution itself writes: the tensor, or scratch to scatter or convert from
    const bool deconv = node.kind == NodeKind::kDeconv;
    const bool convert = !integer && quantized(out);
    const int64_t channels = spec.weight.dim(0);
    const int64_t pixels = spec.batch * spec.out_height * spec.out_width;
    const DType wanted = integer ? held_as(out) : float_;
    spec.destination = deconv || convert ? scratch(pixels, channels, wanted) : place(out);
    if (spec.residual)
      spec.residual_source = integer ? as_meant(node.inputs[1], out) : as_float(node.inputs[1]);
    if (cuda_)
      add(make_device_conv_step(spec));
    else if (spec.simulate)
      add(make_simulated_conv_step(spec, scratch(pixels, channels, DType::kF32)));
    else
      add(make_conv_step(spec));

    Place result = spec.destination;
    if (deconv) {
      const Place target = convert ? scratch(rows(out), shape(out)[3], float_) : place(out);
      add(make_scatter_step(on_, result, target, shape(node.inputs[0])));
      result = target;
    }
    if (convert)
      add(make_map_step(on_, result, {}, place(out), meaning(out), rows(out),
                        Activation::kIdentity));
  }

  // A head output in 32-bit head steps.
  Place as_head(int t) {
    if (place(t).dtype == DType::kI32 && place(t).dense()) return place(t);
    const Place copy = scratch(rows(t), shape(t)[-1], DType::kI32);
    if (place(t).dtype == DType::kI32)
      add(make_copy_step(on_, place(t), copy, rows(t)));
    else
      add(make_widen_step(place(t), info(t).scale(), copy, rows(t)));
    return copy;
  }

  // Sums, then their rescaling, which also adds the residual from where it is.
  void emit_integer_conv(const Node& node) {
    const int out = node.output;
    const bool deconv = node.kind == NodeKind::kDeconv;
    IntegerConv conv;
    const Rescale rescale = lower_node(graph_, node, program_.shapes, conv);
    const int64_t channels = rescale.channels();
    const Place sums = scratch(conv.out_rows(), channels, DType::kI32);
    add(make_sums_step(conv, place(node.inputs[0]), sums, config_.plain));
    const Place result = deconv ? scratch(conv.out_rows(), channels, held_as(out)) : place(out);
    const bool residual = node.attributes.residual;
    const Place r = residual ? as_meant(node.inputs[1], out) : Place{};
    add(make_rescale_step(rescale, sums, residual ? &r : nullptr, result, conv.out_rows()));
    if (deconv) add(make_scatter_step(on_, result, place(out), shape(node.inputs[0])));
  }

  // The output as f32 where the caller takes it from.
  void emit_result() {
    const int t = graph_.output;
    if (place(t).storage == kResult) return;
    add(make_map_step(on_, place(t), meaning(t), dense(kResult, shape(t)[-1], DType::kF32), {},
                      rows(t), Activation::kIdentity));
  }

  // ---- memory

  void finish() {
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

  const Graph& graph_;
  const EngineConfig& config_;
  const BuildOptions& options_;
  const Backend& on_;
  const bool cuda_;
  const DType float_;  // of tensors that are not held as integers
  const bool integer_;
  const bool int8_;
  std::vector<std::vector<int>> consumers_;
  std::vector<int> producers_;
  Program program_;
  std::vector<int64_t> storage_bytes_;
  int node_ = -1;
};

}  // namespace

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
  return Builder(graph, config, options).build();
}

}  // namespace sextant::deploy
