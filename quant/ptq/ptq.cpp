// SPDX-License-Identifier: Apache-2.0
#include "quant/ptq/ptq.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <optional>

#include "core/progress.h"
#include "deploy/engine/engine.h"
#include "deploy/graph/node_rules.h"
#include "deploy/graph/ranges.h"
#include "quant/layers/float_layers.h"

namespace sextant::quant {
namespace {

// Tensors with new values: pooling, concat and similar nodes only pass on values of their inputs.
std::vector<bool> tensors_to_watch(const deploy::Graph& graph) {
  const std::vector<bool> wanted = deploy::groups_to_quantize(graph);
  std::vector<bool> watched(graph.tensors.size(), false);
  for (const deploy::Node& node : graph.nodes) {
    const size_t t = static_cast<size_t>(node.output);
    const deploy::RangeRule rule = deploy::rules_of(node).range;
    const bool makes_values =
        rule == deploy::RangeRule::kMakes || rule == deploy::RangeRule::kShares;
    watched[t] = makes_values && wanted[static_cast<size_t>(graph.tensors[t].group)];
  }
  return watched;
}

struct Calibration {
  std::vector<HistogramCollector> collectors;  // by tensor
  int64_t images = 0;
};

// Runs the f32 engine on the images and counts every watched tensor in place, on its device.
Calibration calibrate(const deploy::Graph& graph, const ImageSource& source,
                      const PtqConfig& config, const std::vector<bool>& watched) {
  Calibration result;
  result.collectors.assign(graph.tensors.size(),
                           HistogramCollector(CollectorOptions{.bins = config.bins}));
  std::optional<deploy::Engine> engine;
  Progress progress("calibrating", config.images);
  while (result.images < config.images) {
    Tensor batch = source();
    if (!batch.defined() || batch.numel() == 0) break;
    check(batch.shape().rank() == 4, "ptq: images {} must be [N,H,W,3]", batch.shape().str());
    const deploy::EngineConfig wanted{.batch = batch.dim(0),
                                      .height = batch.dim(1),
                                      .width = batch.dim(2),
                                      .device = config.device};
    if (!engine || engine->config().batch != wanted.batch ||
        engine->config().height != wanted.height || engine->config().width != wanted.width)
      engine.emplace(graph, wanted);
    engine->run_on_device(batch, [&](const deploy::TensorView& v) {
      if (!watched[static_cast<size_t>(v.id)]) return;
      const bool direct = v.dtype == DType::kF32 && v.pitch == v.shape[-1];
      const Tensor copy = direct ? Tensor() : v.values();
      const float* x = direct ? static_cast<const float*>(v.data) : copy.f32();
      try {
        result.collectors[static_cast<size_t>(v.id)].collect(
            {x, static_cast<size_t>(v.shape.numel())}, v.device);
      } catch (const Error& e) {
        fail("ptq: tensor '{}': {}", v.info->name, e.what());
      }
    });
    result.images += batch.dim(0);
    progress.update(std::min(result.images, config.images));
  }
  progress.finish();
  check(result.images > 0, "ptq: no images to calibrate on");
  return result;
}

// Chooses the ranges of all groups from the histograms; fills the report's groups.
void choose_ranges(deploy::Graph& graph, const Calibration& seen, Method method,
                   const PtqConfig& config, const std::vector<bool>& watched, PtqReport& report) {
  const std::vector<bool> wanted = deploy::groups_to_quantize(graph);
  std::vector<PtqGroup> groups(graph.tensors.size());
  std::vector<float> amax(graph.tensors.size(), 0.0f);
  for (size_t t = 0; t < graph.tensors.size(); ++t) {
    const deploy::TensorInfo& info = graph.tensors[t];
    const size_t g = static_cast<size_t>(info.group);
    if (!wanted[g]) continue;
    groups[g].is_unsigned = info.is_unsigned;
    groups[g].tensors.push_back(info.name);
    if (!watched[t]) continue;
    const AmaxOptions options{.percentile = config.percentile, .is_unsigned = info.is_unsigned};
    amax[g] = std::max(amax[g], static_cast<float>(seen.collectors[t].amax(method, options)));
    groups[g].observed = std::max(groups[g].observed, seen.collectors[t].max_seen());
  }
  deploy::assign_ranges(graph, amax);
  report.images = seen.images;
  report.requantizations = deploy::count_requantizations(graph);
  for (PtqGroup& group : groups) {
    if (group.tensors.empty()) continue;
    const int first = graph.find_tensor(group.tensors.front());
    group.amax = graph.tensors[static_cast<size_t>(first)].amax;
    report.groups.push_back(std::move(group));
  }
}

// Keeps the first images of a source; replay() yields these batches again, then the rest.
class KeptImages {
 public:
  KeptImages(const ImageSource& source, int64_t count) : source_(source) {
    while (std::ssize(images_) < count) {
      const Tensor batch = source();
      if (!batch.defined() || batch.numel() == 0) break;
      check(batch.shape().rank() == 4 && batch.dtype() == DType::kU8,
            "ptq: images {} must be u8 [N,H,W,3]", batch.shape().str());
      batches_.push_back(batch);
      const int64_t bytes = batch.numel() / batch.dim(0);
      for (int64_t i = 0; i < batch.dim(0) && std::ssize(images_) < count; ++i) {
        Tensor one({1, batch.dim(1), batch.dim(2), batch.dim(3)}, DType::kU8);
        std::memcpy(one.raw(), batch.data<uint8_t>() + i * bytes, static_cast<size_t>(bytes));
        if (!images_.empty() && !(one.shape() == images_[0].shape()))
          fail("ptq: images must be of one size, not {} and {}", images_[0].shape().str(),
               one.shape().str());
        images_.push_back(one);
      }
    }
  }
  ImageSource replay() const {
    return [this, next = size_t{0}]() mutable {
      return next < batches_.size() ? batches_[next++] : source_();
    };
  }
  const Images& images() const { return images_; }

 private:
  const ImageSource& source_;
  std::vector<Tensor> batches_;
  Images images_;
};

void check_config(const PtqConfig& c) {
  check(c.images >= 1, "ptq: images is {}, must be at least 1", c.images);
  check(c.layer_images >= 1, "ptq: layer_images is {}, must be at least 1", c.layer_images);
}

double seconds_since(std::chrono::steady_clock::time_point& from) {
  const auto now = std::chrono::steady_clock::now();
  const double s = std::chrono::duration<double>(now - from).count();
  from = now;
  return s;
}

}  // namespace

deploy::Graph quantize(const deploy::Graph& graph, const ImageSource& source,
                       const PtqConfig& config, PtqReport* report_out) {
  const Method method = config.naive ? Method::kMax : config.method;
  check_config(config);
  check_layers(graph, config.float_layers);
  const WeightRangeOptions weights{.method = config.weights, .per_tensor = config.naive};
  PtqReport report;
  auto clock = std::chrono::steady_clock::now();

  const bool learned_rounding = config.rounding == Rounding::kAdaRound;
  const bool refines = config.bias_correction || learned_rounding;
  const bool by_activations = config.equalize == Equalization::kActivations;
  const bool looks = refines || by_activations || report_out;
  const KeptImages kept(source, looks ? std::min(config.images, config.layer_images) : 0);

  deploy::Graph exact = graph;
  if (config.equalize != Equalization::kNone) {
    ChannelRanges channels;
    if (by_activations) channels = observe_channels(exact, kept.images());
    report.equalization =
        equalize(exact, config.equalization, channels.empty() ? nullptr : &channels);
  }
  if (config.split_identity && !config.naive) exact = split_identity(exact, &report.split);
  report.equalize_seconds = seconds_since(clock);

  deploy::Graph result = exact;
  deploy::unify_ranges(result);
  if (config.signed_ranges) deploy::make_signed(result);
  const std::vector<bool> watched = tensors_to_watch(result);
  const Calibration seen = calibrate(result, kept.replay(), config, watched);
  choose_ranges(result, seen, method, config, watched, report);
  set_weight_scales(result, weights);
  if (!config.float_layers.empty()) result = with_named_in_float(result, config.float_layers);
  if (config.signed_ranges) result = with_image_in_float(result);
  report.calibrate_seconds = seconds_since(clock);

  if (report_out) report.sqnr = report.sqnr_before = output_sqnr(exact, result, kept.images());
  if (refines) {
    clock = std::chrono::steady_clock::now();
    report.refinement = correct_layers(result, exact, kept.images(),
                                       {.learned_rounding = learned_rounding,
                                        .bias_correction = config.bias_correction,
                                        .rounding = config.adaround,
                                        .seed = config.seed});
    report.refine_seconds = seconds_since(clock);
    if (report_out) report.sqnr = output_sqnr(exact, result, kept.images());
  }
  for (const deploy::Node& node : result.nodes) {
    report.layers += node.has_weight();
    report.float_layers += node.has_weight() && !deploy::runs_in_int8(result, node);
  }
  report.exact = std::move(exact);
  if (report_out) *report_out = std::move(report);
  return result;
}

}  // namespace sextant::quant
