#include "quant/ptq.h"

#include <algorithm>
#include <memory>
#include <optional>

#include "core/progress.h"
#include "deploy/engine.h"
#include "deploy/ranges.h"
#include "quant/calibrator.h"

namespace sextant::quant {
namespace {

using deploy::NodeKind;

// Tensors whose values are new: pooling, concat and the like only pass on what their inputs had.
std::vector<bool> tensors_to_watch(const deploy::Graph& graph) {
  const std::vector<bool> wanted = deploy::groups_to_quantize(graph);
  std::vector<bool> watched(graph.tensors.size(), false);
  for (const deploy::Node& node : graph.nodes) {
    const size_t t = static_cast<size_t>(node.output);
    const bool makes_values = node.kind == NodeKind::kConv || node.kind == NodeKind::kDeconv ||
                              node.kind == NodeKind::kAdd || node.kind == NodeKind::kActivation ||
                              node.kind == NodeKind::kGlobalAvgPool;
    watched[t] = makes_values && wanted[static_cast<size_t>(graph.tensors[t].group)];
  }
  return watched;
}

}  // namespace

deploy::Graph quantize(const deploy::Graph& graph, const ImageSource& source,
                       const PtqConfig& config, PtqReport* report) {
  const Method method = method_from_name(config.method);
  check(config.images >= 1, "ptq: images is {}, must be at least 1", config.images);
  deploy::Graph result = graph;
  deploy::unify_ranges(result);
  const std::vector<bool> watched = tensors_to_watch(result);
  std::vector<HistogramCollector> collectors(
      result.tensors.size(), HistogramCollector(CollectorOptions{.bins = config.bins}));

  std::optional<deploy::Engine> engine;
  Progress progress("calibrating", config.images);
  int64_t images = 0;
  while (images < config.images) {
    Tensor batch = source();
    if (!batch.defined() || batch.numel() == 0) break;
    check(batch.shape().rank() == 4, "ptq: images {} must be [N,H,W,3]", batch.shape().str());
    const deploy::EngineConfig wanted{
        .batch = batch.dim(0), .height = batch.dim(1), .width = batch.dim(2)};
    if (!engine || engine->config().batch != wanted.batch ||
        engine->config().height != wanted.height || engine->config().width != wanted.width)
      engine.emplace(result, wanted);
    engine->run(batch, [&](const deploy::TensorView& v) {
      if (!watched[static_cast<size_t>(v.id)]) return;
      const bool direct = v.dtype == DType::kF32 && v.pitch == v.shape[-1];
      const Tensor copy = direct ? Tensor() : v.values();
      const float* x = direct ? static_cast<const float*>(v.data) : copy.f32();
      try {
        collectors[static_cast<size_t>(v.id)].collect({x, static_cast<size_t>(v.shape.numel())});
      } catch (const Error& e) {
        fail("ptq: tensor '{}': {}", v.info->name, e.what());
      }
    });
    images += batch.dim(0);
    progress.update(std::min(images, config.images));
  }
  progress.finish();
  check(images > 0, "ptq: no images to calibrate on");

  const std::vector<bool> wanted = deploy::groups_to_quantize(result);
  std::vector<PtqGroup> groups(result.tensors.size());
  std::vector<float> amax(result.tensors.size(), 0.0f);
  for (size_t t = 0; t < result.tensors.size(); ++t) {
    const deploy::TensorInfo& info = result.tensors[t];
    const size_t g = static_cast<size_t>(info.group);
    if (!wanted[g]) continue;
    groups[g].is_unsigned = info.is_unsigned;
    groups[g].tensors.push_back(info.name);
    if (!watched[t]) continue;
    const AmaxOptions options{.percentile = config.percentile, .is_unsigned = info.is_unsigned};
    amax[g] = std::max(amax[g], static_cast<float>(collectors[t].amax(method, options)));
    groups[g].observed = std::max(groups[g].observed, collectors[t].max_seen());
  }
  deploy::assign_ranges(result, amax);
  if (report) {
    report->images = images;
    report->requantizations = deploy::count_requantizations(result);
    report->groups.clear();
    for (PtqGroup& group : groups) {
      if (group.tensors.empty()) continue;
      const int first = result.find_tensor(group.tensors.front());
      group.amax = result.tensors[static_cast<size_t>(first)].amax;
      report->groups.push_back(std::move(group));
    }
  }
  return result;
}

}  // namespace sextant::quant
