// SPDX-License-Identifier: Apache-2.0
#include "apps/training/train_config.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "core/hash.h"

namespace sextant::apps {
namespace {

void augment_fields(ConfigFields& f, data::AugmentConfig& c) {
  f("degrees", c.degrees, 0, 180);
  f("translate", c.translate, 0, 0.9);
  f("scale", c.scale, 0, 0.9);
  f("shear", c.shear, 0, 60);
  f("flipud", c.flipud, 0, 1);
  f("fliplr", c.fliplr, 0, 1);
  f("mosaic", c.mosaic, 0, 1);
  f("mixup", c.mixup, 0, 1);
  f("hsv_h", c.hsv_h, 0, 1);
  f("hsv_s", c.hsv_s, 0, 1);
  f("hsv_v", c.hsv_v, 0, 1);
}

bool in_unit_interval(const std::vector<double>& betas) {
  return std::ranges::all_of(betas, [](double b) { return b >= 0 && b < 1; });
}

}  // namespace

void DataConfig::fields(ConfigFields& f) {
  f.required_path("path", path);
  f("train", train);
  f("val", val);
  f("on_error", on_error);
  f("fraction", fraction, 0.0001, 1);
  f("single_cls", single_cls);
}

data::Dataset DataConfig::open(const std::string& split,
                               const std::optional<data::ClassList>& classes) const {
  data::DatasetOptions options{on_error, classes};
  if (single_cls) {
    check(!classes || classes->is_any(), "'data.single_cls' is set, but {} tells classes apart",
          classes ? classes->where : "");
    options.classes = data::ClassList::any("'data.single_cls'");
  }
  return data::open_dataset(path, split, options);
}

data::Dataset DataConfig::open_train(const std::optional<data::ClassList>& classes) const {
  data::Dataset dataset = open(train, classes);
  if (fraction >= 1) return dataset;
  // By the hashes of the names: images that are added or left out do not change the others' part.
  std::vector<std::pair<uint64_t, size_t>> order;
  for (size_t i = 0; i < dataset.samples.size(); ++i)
    order.emplace_back(Hash64().add(dataset.samples[i].image.filename().string()).value(), i);
  std::ranges::sort(order);
  const auto kept =
      static_cast<size_t>(std::max(1.0, std::round(fraction * static_cast<double>(order.size()))));
  order.resize(kept);
  std::ranges::sort(order, {}, &std::pair<uint64_t, size_t>::second);
  std::vector<data::Sample> samples;
  for (const auto& [hash, i] : order) samples.push_back(std::move(dataset.samples[i]));
  dataset.samples = std::move(samples);
  return dataset;
}

void SolverConfig::fields(ConfigFields& f) {
  f("optimizer", optimizer);
  // The default rates are SGD's, many times what Adam takes.
  f.check(!adam() || f.given("lr0"), "lr0",
          fmt::format("is missing, 'solver.optimizer' \"{}\" needs its own", name_of(optimizer)));
  if (f.reading() && adam()) warmup_bias_lr = 0;
  f("lr0", lr0, 0, 10);
  f("lrf", lrf, 0, 1);
  f("schedule", schedule);
  f("momentum", momentum, 0, 0.9999);
  f("weight_decay", weight_decay, 0, 1);
  f("warmup_epochs", warmup_epochs, 0, 100000);
  f("warmup_iterations", warmup_iterations, -1, 1e9);
  f("warmup_momentum", warmup_momentum, 0, 0.9999);
  f("warmup_bias_lr", warmup_bias_lr, 0, 10);
  f("nominal_batch", nominal_batch, 1, 65536);
  f("ema_decay", ema_decay, 0, 1);
  f("ema_tau", ema_tau, 1e-3, 1e9);
  if (f.applies(adam(), "betas", "goes with 'solver.optimizer' \"adam\" or \"adamw\""))
    f("betas", betas);
  f.check(betas.size() == 2 && in_unit_interval(betas), "betas",
          fmt::format("is [{}], must be two numbers in [0, 1)", fmt::join(betas, ", ")));
}

void TrainingConfig::fields(ConfigFields& f) {
  f("mode", mode);
  if (f.applies(mode == TrainingScheme::kRepOpt, "search", "goes with 'training.mode' \"repopt\""))
    f.object("search", [&](ConfigFields& s) { s("epochs", search_epochs, 1, 100000); });
}

void RunConfig::fields(ConfigFields& f) {
  f("seed", seed);
  f("device", device);
  f("epochs", epochs, 1, 100000);
  f("batch", batch, 1, 4096);
  f.sides("image_size", image_size, image_width, 64, 4096);
  f("workers", workers, 0, 256);
  f("close_mosaic", close_mosaic, 0, 100000);
  f("eval_interval", eval_interval, 1, 100000);
  f("eval_conf", eval_conf, 0, 1);
  f("eval_iou", eval_iou, 0, 1);
  f("cache_mb", cache_mb, -1, 1 << 20);
  f("save_period", save_period, 0, 100000);
  f("patience", patience, 0, 100000);
  f("bucket_mb", bucket_mb, 1, 4096);
  f.object("data", [&](ConfigFields& d) { data.fields(d); });
  f.object("solver", [&](ConfigFields& s) { solver.fields(s); });
  f.object("augment", [&](ConfigFields& a) { augment_fields(a, augment); });
}

void TrainConfig::fields(ConfigFields& f) {
  RunConfig::fields(f);
  f("multi_scale", multi_scale, 0, 0.9);
  f("gray_border", gray_border, 0, 64);
  f.path("init", init);
  f("freeze", freeze);
  if (f.reading()) training.search_epochs = epochs;
  f.object("training", [&](ConfigFields& t) { training.fields(t); });
  f("precision", precision);
  f("sync_bn", sync_bn);
  f("cuda_graph", cuda_graph);
  f.verbatim("model", model);
  f.verbatim("loss", loss);
  f.path("teacher", teacher);
}

namespace {

// RepOptimizer decides on the blocks.
void set_training_mode(TrainConfig& c) {
  if (c.training.mode != TrainingScheme::kRepOpt) return;
  const Json given = c.model.value("training_mode", Json("repopt"));
  check(given == "repopt",
        "{}: 'model.training_mode' is {}; leave it out, 'training.mode' \"repopt\" sets it",
        c.where, short_json(given));
  c.model["training_mode"] = "repopt";
}

}  // namespace

TrainConfig parse_train_config(const Json& json, const std::string& where,
                               const std::string& folder) {
  TrainConfig c;
  c.where = where;
  ConfigReader r(json, where, "", folder);
  read_fields(r, c);
  if (2 * c.gray_border >= std::min(c.image_size, c.width()))
    r.fail_key("gray_border", fmt::format("is {}, leaves nothing of {} pixels", c.gray_border,
                                          std::min(c.image_size, c.width())));
  set_training_mode(c);
  // Mistakes are reported now, not after the data has been read.
  const Yolov6Config model = read_yolov6_config(ConfigReader(c.model, where, "model."), 1);
  for (const int side : {c.image_size, c.width()})
    if (side % model.size_multiple() != 0)
      r.fail_key("image_size",
                 fmt::format("is {}, must be a multiple of {}", side, model.size_multiple()));
  if (model.lite() && !c.teacher.empty())
    r.fail_key("teacher", "is given, but YOLOv6Lite is trained without distillation");
  check_objectness(read_loss_config(ConfigReader(c.loss, where, "loss."), model.loss()),
                   model.objectness, where);
  r.finish();
  return c;
}

}  // namespace sextant::apps
