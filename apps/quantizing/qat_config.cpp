#include "apps/quantizing/qat_config.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "apps/quantizing/ptq_config.h"
#include "apps/quantizing/qat_source.h"

namespace sextant::apps {
namespace {

namespace fs = std::filesystem;

// The rate and batch of the training that the defaults assume when nothing is known of it.
constexpr double kUsualRate = 0.02, kUsualBatch = 16;
constexpr int64_t kUsualEpochs = 6;

void read_calibration(ConfigReader r, QatConfig& c) {
  c.calibration_split = c.data.train;
  read_ptq_config(r, c.calibration);
  r.get("split", c.calibration_split);
  r.finish();
}

void read_distill(ConfigReader r, DistillConfig& d) {
  r.number("cwd_weight", d.cwd_weight, 0, 1e6);
  r.number("cwd_temperature", d.cwd_temperature, 0.01, 1000);
  r.number("logits_weight", d.logits_weight, 0, 1e6);
  r.number("logits_temperature", d.logits_temperature, 0.01, 1000);
  r.get("features", d.features);
  r.finish();
}

// The defaults that follow from the model and its training.
void set_defaults(QatConfig& c, const SourceModel& source) {
  const SourceTraining& t = source.training;
  c.epochs = t.epochs > 0 ? std::max<int64_t>(1, std::llround(static_cast<double>(t.epochs) / 10.0))
                          : kUsualEpochs;
  const double rate = t.lr0 > 0 ? t.lr0 : kUsualRate;
  const double batch = t.batch > 0 ? static_cast<double>(t.batch) : kUsualBatch;
  c.solver.lr0 = 0.01 * rate * static_cast<double>(c.batch) / batch;
  c.solver.weight_decay = 5e-5;
  c.solver.warmup_epochs = 0;
  c.solver.warmup_bias_lr = 0;
  c.solver.nominal_batch = c.batch;
  c.solver.ema_decay = 0;
  c.eval_interval = 1;
  c.image_size = source.graph.image_size > 0 ? static_cast<int>(source.graph.image_size) : 640;
}

}  // namespace

Json DistillConfig::json() const {
  return {{"cwd_weight", cwd_weight},
          {"cwd_temperature", cwd_temperature},
          {"logits_weight", logits_weight},
          {"logits_temperature", logits_temperature},
          {"features", features}};
}

quant::WeightRanges QatConfig::weights() const {
  if (weight_ranges == "learned") return quant::WeightRanges::kLearned;
  return weight_ranges == "follow" ? quant::WeightRanges::kFollow : quant::WeightRanges::kFrozen;
}

Json QatConfig::json() const {
  Json j = RunConfig::json();
  Json calibration_json = ptq_json(calibration);
  calibration_json["split"] = calibration_split;
  j.update({{"model", model},
            {"start", start},
            {"calibration", calibration_json},
            {"float_layers", float_layers},
            {"learn_scales", learn_scales},
            {"weight_ranges", weight_ranges},
            {"loss_weight", loss_weight},
            {"distill", distill.json()},
            {"loss", loss}});
  return j;
}

QatConfig parse_qat_config(const Json& json, const std::string& where, const std::string& folder) {
  QatConfig c;
  ConfigReader r(json, where);
  r.require("model", c.model);
  c.model = beside(folder, c.model);
  r.get("start", c.start);
  if (!c.start.empty()) c.start = beside(folder, c.start);
  r.number("batch", c.batch, 1, 4096);
  const SourceModel source = load_source_model(c.model);
  set_defaults(c, source);
  c.read(r, folder);
  const int64_t multiple = deploy::size_multiple(source.graph);
  check(c.image_size % multiple == 0, "{}: 'image_size' is {}, must be a multiple of {}", where,
        c.image_size, multiple);
  read_calibration(r.child("calibration"), c);
  r.get("float_layers", c.float_layers);
  r.get("learn_scales", c.learn_scales);
  if (c.learn_scales) c.weight_ranges = "learned";
  r.choice("weight_ranges", c.weight_ranges, {"frozen", "follow", "learned"});
  r.number("loss_weight", c.loss_weight, 0, 1e6);
  read_distill(r.child("distill"), c.distill);
  check(c.loss_weight > 0 || c.distill.wanted(),
        "{}: 'loss_weight' and all weights of 'distill' are 0: nothing to train by", where);
  ConfigReader l = r.child("loss");
  c.loss = l.json();
  check_objectness(read_loss_config(l, source.loss), source.decode().objectness, where);
  r.finish();
  return c;
}

QatConfig load_qat_config(const std::string& path, const std::vector<std::string>& overrides) {
  Json json = load_json(path);
  for (const auto& o : overrides) apply_override(json, o);
  return parse_qat_config(json, path, fs::path(path).parent_path().string());
}

}  // namespace sextant::apps
