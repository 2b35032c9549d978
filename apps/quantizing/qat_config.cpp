// SPDX-License-Identifier: Apache-2.0
#include "apps/quantizing/qat_config.h"

#include <algorithm>
#include <cmath>

#include "apps/quantizing/ptq_config.h"
#include "apps/quantizing/qat_source.h"

namespace sextant::apps {
namespace {

// The learning rate and batch that the defaults assume if the training of the model is unknown.
constexpr double kUsualRate = 0.02, kUsualBatch = 16;
constexpr int64_t kUsualEpochs = 6;

}  // namespace

QatConfig::QatConfig() {
  epochs = 0;
  image_size = 0;
  eval_interval = 1;
  solver.lr0 = -1;
  solver.weight_decay = 5e-5;
  solver.warmup_epochs = 0;
  solver.warmup_bias_lr = 0;
  solver.nominal_batch = 0;
  solver.ema_decay = 0;
}

void DistillConfig::fields(ConfigFields& f) {
  f("cwd_weight", cwd_weight, 0, 1e6);
  f("cwd_temperature", cwd_temperature, 0.01, 1000);
  f("logits_weight", logits_weight, 0, 1e6);
  f("logits_temperature", logits_temperature, 0.01, 1000);
  f("features", features);
}

void QatConfig::fields(ConfigFields& f) {
  RunConfig::fields(f);
  f.required_path("model", model);
  f.path("start", start);
  if (f.reading()) calibration_split = data.train;
  f.object("calibration", [&](ConfigFields& c) {
    ptq_fields(c, calibration);
    c("split", calibration_split);
  });
  f("float_layers", float_layers);
  f("learn_scales", learn_scales);
  if (f.reading() && learn_scales) weight_ranges = quant::WeightRanges::kLearned;
  f("weight_ranges", weight_ranges);
  f("loss_weight", loss_weight, 0, 1e6);
  f.object("distill", [&](ConfigFields& d) { distill.fields(d); });
  f.verbatim("loss", loss);
}

void QatConfig::resolve(const SourceModel& source) {
  const SourceTraining& t = source.training;
  if (epochs == 0)
    epochs = t.epochs > 0 ? std::max<int64_t>(1, std::llround(static_cast<double>(t.epochs) / 10.0))
                          : kUsualEpochs;
  if (solver.lr0 < 0) {
    const double rate = t.lr0 > 0 ? t.lr0 : kUsualRate;
    const double images = t.batch > 0 ? static_cast<double>(t.batch) : kUsualBatch;
    solver.lr0 = 0.01 * rate * static_cast<double>(batch) / images;
  }
  if (solver.nominal_batch == 0) solver.nominal_batch = batch;
  const int given = image_width;
  image_size = deploy::choose_image_size(image_size, source.graph, where + ": 'image_size'");
  const auto width = static_cast<int>(source.graph.width_for(image_size));
  image_width = width == image_size ? 0 : width;
  check(given == 0 || given == image_width,
        "{}: 'image_size' is [{}, {}]; the model's shape is kept: leave it out, or give the height",
        where, image_size, given);
  check_objectness(read_loss_config(ConfigReader(loss, where, "loss."), source.loss),
                   source.decode().objectness, where);
}

QatConfig parse_qat_config(const Json& json, const std::string& where, const std::string& folder,
                           const std::string& prefix) {
  QatConfig c;
  c.where = where;
  ConfigReader r(json, where, prefix, folder);
  read_fields(r, c);
  check(c.loss_weight > 0 || c.distill.wanted(),
        "{}: '{}loss_weight' and all weights of '{}distill' are 0, so no loss is left to train by",
        where, prefix, prefix);
  read_loss_config(ConfigReader(c.loss, where, prefix + "loss."), {});
  r.finish();
  return c;
}

}  // namespace sextant::apps
