// SPDX-License-Identifier: Apache-2.0
#include "apps/quantizing/qat_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "apps/model_files/checkpoint.h"
#include "apps/quantizing/calibrate.h"
#include "apps/quantizing/qat_config.h"
#include "core/file.h"
#include "deploy/detect/choices.h"
#include "deploy/detect/evaluation.h"
#include "deploy/graph/file.h"
#include "quant/layers/float_layers.h"
#include "quant/training/distillation_teacher.h"

namespace sextant::apps {
namespace {

namespace fs = std::filesystem;

// Reads the config.json of the run folder that contains the model, if any.
void read_training_beside(const fs::path& model, SourceModel& s) {
  const fs::path file = model.parent_path() / "config.json";
  if (!file_exists(file)) return;
  const Json json = load_json(file);
  const auto is_object = [&](const char* key) {
    return json.is_object() && json.contains(key) && json.at(key).is_object();
  };
  if (!is_object("solver") || !is_object("model")) return;  // not the config of a training run
  const auto number = [](const Json& j, const char* key) {
    return j.contains(key) && j.at(key).is_number() ? j.at(key).get<double>() : 0.0;
  };
  s.training.epochs = static_cast<int64_t>(number(json, "epochs"));
  s.training.batch = static_cast<int64_t>(number(json, "batch"));
  // The rate of another optimizer says nothing about a suitable rate here.
  if (json["solver"].value("optimizer", "sgd") == name_of(OptimizerKind::kSgd))
    s.training.lr0 = number(json["solver"], "lr0");
  if (is_object("loss"))
    s.loss = read_loss_config(ConfigReader(json["loss"], file.string(), "loss."), s.loss);
}

// The identity of y may have become a residual (quant/ptq/split_identity.h).
bool same_inputs(const deploy::Node& x, const deploy::Node& y) {
  std::vector<int> inputs = x.inputs;
  if (y.has_residual() && !x.has_residual()) inputs.push_back(x.inputs[0]);
  return y.inputs == inputs;
}

}  // namespace

SourceModel load_source_model(const std::string& path) {
  const SafeTensors file = load_safetensors(path);
  SourceModel s;
  if (deploy::is_deploy_file(file)) {
    s.graph = deploy::load_deploy(file);
    s.loss.iou_type = kernels::IouType::kSIoU;
  } else {
    LoadedCheckpoint c = load_checkpoint(file);
    s.graph = to_graph(*c.model, c.info);
    s.loss = c.model->config().loss();
    s.training.epochs = std::max<int64_t>(0, c.info.epoch);
  }
  read_training_beside(path, s);
  s.graph.source = path;
  check(s.graph.decode() != nullptr, "{}: is not a detector: it has no decode node", path);
  // Only the deployed branch is left: the graph has no auxiliary branches (anchors, distributions).
  const deploy::DecodeAttributes& decode = s.decode();
  s.loss.num_classes = decode.num_classes;
  s.loss.strides = decode.strides;
  s.loss.reg_max = decode.reg_max;
  s.loss.use_dfl = decode.reg_max > 0;
  if (!decode.objectness)
    s.loss.objectness_weight = 0;
  else if (s.loss.objectness_weight == 0)
    s.loss.objectness_weight = 1;
  s.loss.anchors.clear();
  return s;
}

void check_same_structure(const deploy::Graph& a, const deploy::Graph& b) {
  const std::string where =
      fmt::format("{}: does not belong to the model {}", b.label(), a.label());
  check(a.nodes.size() == b.nodes.size(), "{}: {} nodes instead of {}", where, b.nodes.size(),
        a.nodes.size());
  for (size_t n = 0; n < a.nodes.size(); ++n) {
    const deploy::Node &x = a.nodes[n], &y = b.nodes[n];
    const bool weights = x.weight.defined() == y.weight.defined() &&
                         (!x.weight.defined() || x.weight.shape() == y.weight.shape());
    check(x.name == y.name && x.kind() == y.kind() && same_inputs(x, y) && x.output == y.output &&
              weights,
          "{}: node '{}' instead of '{}', or of another shape", where, y.name, x.name);
  }
  check(a.class_names == b.class_names, "{}: the classes differ", where);
}

namespace {

deploy::Graph calibrated(const QatConfig& config, const deploy::Graph& model) {
  const data::Dataset dataset =
      config.data.open(config.calibration_split, deploy::classes_of(model));
  quant::PtqConfig ptq = config.calibration;
  ptq.device = deploy::choose_device(config.device);
  ptq.float_layers.insert(ptq.float_layers.end(), config.float_layers.begin(),
                          config.float_layers.end());
  return quant::quantize(model, spread_images(dataset, ptq.images, config.image_size, model), ptq);
}

// The factor for each channel of `x` that best matches it to `y`, [N,H,W,C]; 1 for a channel of
// zeros.
Tensor fitted_factors(const Tensor& x, const Tensor& y) {
  const int64_t channels = x.dim(3);
  std::vector<double> xy(static_cast<size_t>(channels), 0.0), xx = xy;
  for (int64_t i = 0; i < x.numel(); ++i) {
    const auto c = static_cast<size_t>(i % channels);
    xy[c] += static_cast<double>(x.f32()[i]) * y.f32()[i];
    xx[c] += static_cast<double>(x.f32()[i]) * x.f32()[i];
  }
  Tensor factors(Shape{channels});
  for (size_t c = 0; c < xx.size(); ++c)
    factors.f32()[c] = xy[c] > 0 ? static_cast<float>(xy[c] / xx[c]) : 1.0f;
  return factors;
}

// Noise over signal between y and x times the channel factors (1 if empty).
double noise_of(const Tensor& x, const Tensor* factors, const Tensor& y) {
  double noise = 0, signal = 0;
  for (int64_t i = 0; i < x.numel(); ++i) {
    const double f = factors == nullptr ? 1.0 : factors->f32()[i % x.dim(3)];
    const double d = f * x.f32()[i] - y.f32()[i];
    noise += d * d;
    signal += static_cast<double>(y.f32()[i]) * y.f32()[i];
  }
  return signal > 0 ? noise / signal : 0.0;
}

}  // namespace

deploy::Graph make_start(const QatConfig& config, const deploy::Graph& model,
                         const deploy::Graph* given) {
  deploy::Graph start;
  if (given != nullptr)
    start = *given;
  else if (!config.start.empty())
    start = deploy::load_deploy(config.start);
  else if (model.quantized())
    start = model;
  else
    return calibrated(config, model);
  check(start.quantized(), "{}: has no activation ranges; run sextant quantize", start.label());
  check_same_structure(model, start);
  return config.float_layers.empty() ? start
                                     : quant::with_named_in_float(start, config.float_layers);
}

std::vector<Tensor> channel_factors(const deploy::Graph& model, const deploy::Graph& start,
                                    const std::vector<int>& tensors, const Tensor& image) {
  constexpr double kRounding = 0.25;  // rounding weights causes a tenth of this or less
  const std::vector<Tensor> wanted = quant::DistillationTeacher(model, tensors).run(image).features;
  const std::vector<Tensor> got = quant::DistillationTeacher(start, tensors).run(image).features;
  std::vector<Tensor> factors(tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (noise_of(got[i], nullptr, wanted[i]) <= kRounding) continue;
    const Tensor fitted = fitted_factors(got[i], wanted[i]);
    if (noise_of(got[i], &fitted, wanted[i]) <= kRounding) factors[i] = fitted;
  }
  return factors;
}

}  // namespace sextant::apps
