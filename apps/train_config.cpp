#include "apps/train_config.h"

#include <filesystem>

namespace sextant::apps {

namespace fs = std::filesystem;

Json TrainingConfig::json() const {
  if (mode == "plain") return {{"mode", mode}};
  return {{"mode", mode}, {"search", {{"epochs", search_epochs}}}};
}

Json TrainConfig::json() const {
  return {{"seed", seed},
          {"device", device},
          {"epochs", epochs},
          {"batch", batch},
          {"image_size", image_size},
          {"workers", workers},
          {"close_mosaic", close_mosaic},
          {"eval_interval", eval_interval},
          {"eval_conf", eval_conf},
          {"eval_iou", eval_iou},
          {"cache_mb", cache_mb},
          {"data",
           {{"path", data.path},
            {"train", data.train},
            {"val", data.val},
            {"on_error", data.on_error}}},
          {"training", training.json()},
          {"model", model},
          {"solver",
           {{"lr0", solver.lr0},
            {"lrf", solver.lrf},
            {"schedule", solver.schedule},
            {"momentum", solver.momentum},
            {"weight_decay", solver.weight_decay},
            {"warmup_epochs", solver.warmup_epochs},
            {"warmup_iterations", solver.warmup_iterations},
            {"warmup_momentum", solver.warmup_momentum},
            {"warmup_bias_lr", solver.warmup_bias_lr},
            {"nominal_batch", solver.nominal_batch},
            {"ema_decay", solver.ema_decay},
            {"ema_tau", solver.ema_tau}}},
          {"augment",
           {{"degrees", augment.degrees},
            {"translate", augment.translate},
            {"scale", augment.scale},
            {"shear", augment.shear},
            {"flipud", augment.flipud},
            {"fliplr", augment.fliplr},
            {"mosaic", augment.mosaic},
            {"mixup", augment.mixup},
            {"hsv_h", augment.hsv_h},
            {"hsv_s", augment.hsv_s},
            {"hsv_v", augment.hsv_v}}}};
}

namespace {

// After `epochs` and `model`: search.epochs defaults to the one, repopt sets the mode of the other.
void read_training(ConfigReader r, TrainConfig& c) {
  r.choice("mode", c.training.mode, {"plain", "repopt"});
  const bool repopt = c.training.mode == "repopt";
  check(repopt || !r.has("search"), "{}: 'training.search' goes with 'training.mode' \"repopt\"",
        r.where());
  c.training.search_epochs = c.epochs;
  ConfigReader s = r.child("search");
  s.number("epochs", c.training.search_epochs, 1, 100000);
  s.finish();
  r.finish();
  if (!repopt) return;
  const Json given = c.model.value("training_mode", Json("repopt"));
  check(given == "repopt",
        "{}: 'model.training_mode' is {}; leave it out, 'training.mode' \"repopt\" sets it",
        r.where(), given.dump());
  c.model["training_mode"] = "repopt";
  read_yolov6_config(ConfigReader(c.model, r.where(), "model."), 1);
}

}  // namespace

TrainConfig parse_train_config(const Json& json, const std::string& where,
                               const std::string& folder) {
  TrainConfig c;
  ConfigReader r(json, where);
  r.get("seed", c.seed);
  r.choice("device", c.device, {"auto", "cpu"});
  r.number("epochs", c.epochs, 1, 100000);
  r.number("batch", c.batch, 1, 4096);
  r.number("image_size", c.image_size, 64, 4096);
  check(c.image_size % 32 == 0, "{}: 'image_size' is {}, must be a multiple of 32", where,
        c.image_size);
  r.number("workers", c.workers, 1, 256);
  r.number("close_mosaic", c.close_mosaic, 0, 100000);
  r.number("eval_interval", c.eval_interval, 1, 100000);
  r.number("eval_conf", c.eval_conf, 0, 1);
  r.number("eval_iou", c.eval_iou, 0, 1);
  r.number("cache_mb", c.cache_mb, 0, 1 << 20);

  ConfigReader d = r.child("data");
  d.require("path", c.data.path);
  if (fs::path(c.data.path).is_relative())
    c.data.path = (fs::path(folder) / c.data.path).lexically_normal().string();
  d.get("train", c.data.train);
  d.get("val", c.data.val);
  d.choice("on_error", c.data.on_error, {"skip", "stop"});
  d.finish();

  ConfigReader m = r.child("model");
  c.model = m.json();
  read_yolov6_config(m, 1);  // reported now, not after the data has been read

  ConfigReader s = r.child("solver");
  s.number("lr0", c.solver.lr0, 0, 10);
  s.number("lrf", c.solver.lrf, 0, 1);
  s.choice("schedule", c.solver.schedule, {"cosine", "constant"});
  s.number("momentum", c.solver.momentum, 0, 0.9999);
  s.number("weight_decay", c.solver.weight_decay, 0, 1);
  s.number("warmup_epochs", c.solver.warmup_epochs, 0, 100000);
  s.number("warmup_iterations", c.solver.warmup_iterations, -1, 1e9);
  s.number("warmup_momentum", c.solver.warmup_momentum, 0, 0.9999);
  s.number("warmup_bias_lr", c.solver.warmup_bias_lr, 0, 10);
  s.number("nominal_batch", c.solver.nominal_batch, 1, 65536);
  s.number("ema_decay", c.solver.ema_decay, 0, 1);
  s.number("ema_tau", c.solver.ema_tau, 1e-3, 1e9);
  s.finish();

  ConfigReader a = r.child("augment");
  a.number("degrees", c.augment.degrees, 0, 180);
  a.number("translate", c.augment.translate, 0, 0.9);
  a.number("scale", c.augment.scale, 0, 0.9);
  a.number("shear", c.augment.shear, 0, 60);
  a.number("flipud", c.augment.flipud, 0, 1);
  a.number("fliplr", c.augment.fliplr, 0, 1);
  a.number("mosaic", c.augment.mosaic, 0, 1);
  a.number("mixup", c.augment.mixup, 0, 1);
  a.number("hsv_h", c.augment.hsv_h, 0, 1);
  a.number("hsv_s", c.augment.hsv_s, 0, 1);
  a.number("hsv_v", c.augment.hsv_v, 0, 1);
  a.finish();

  read_training(r.child("training"), c);
  r.finish();
  return c;
}

TrainConfig load_train_config(const std::string& path, const std::vector<std::string>& overrides) {
  Json json = load_json(path);
  for (const auto& o : overrides) apply_override(json, o);
  return parse_train_config(json, path, fs::path(path).parent_path().string());
}

std::optional<std::string> first_difference(const Json& a, const Json& b) {
  if (!a.is_object() || !b.is_object()) {
    if (a == b) return std::nullopt;
    return "";
  }
  for (const auto& [key, value] : a.items()) {
    if (!b.contains(key)) return key;
    if (const auto inner = first_difference(value, b.at(key)))
      return inner->empty() ? key : key + "." + *inner;
  }
  for (const auto& [key, value] : b.items())
    if (!a.contains(key)) return key;
  return std::nullopt;
}

}  // namespace sextant::apps
