#include "apps/training/train_config.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>

namespace sextant::apps {

namespace fs = std::filesystem;

Json TrainingConfig::json() const {
  if (mode == "plain") return {{"mode", mode}};
  return {{"mode", mode}, {"search", {{"epochs", search_epochs}}}};
}

Json SolverConfig::json() const {
  Json j = {{"optimizer", optimizer},
            {"lr0", lr0},
            {"lrf", lrf},
            {"schedule", schedule},
            {"momentum", momentum},
            {"weight_decay", weight_decay},
            {"warmup_epochs", warmup_epochs},
            {"warmup_iterations", warmup_iterations},
            {"warmup_momentum", warmup_momentum},
            {"warmup_bias_lr", warmup_bias_lr},
            {"nominal_batch", nominal_batch},
            {"ema_decay", ema_decay},
            {"ema_tau", ema_tau}};
  if (adam()) j["betas"] = betas;
  return j;
}

Json RunConfig::json() const {
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
          {"patience", patience},
          {"data",
           {{"path", data.path},
            {"train", data.train},
            {"val", data.val},
            {"on_error", data.on_error}}},
          {"solver", solver.json()},
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

Json TrainConfig::json() const {
  Json j = RunConfig::json();
  j.update({{"multi_scale", multi_scale},
            {"gray_border", gray_border},
            {"init", init},
            {"freeze", freeze},
            {"training", training.json()},
            {"precision", precision},
            {"cuda_graph", cuda_graph},
            {"model", model},
            {"loss", loss},
            {"teacher", teacher}});
  return j;
}

std::string beside(const std::string& folder, const std::string& path) {
  return fs::path(path).is_relative() ? (fs::path(folder) / path).lexically_normal().string()
                                      : path;
}

namespace {

void read_solver(ConfigReader s, SolverConfig& c) {
  s.choice("optimizer", c.optimizer, {"sgd", "adam", "adamw"});
  if (c.adam()) {
    // The default rates are SGD's, many times what Adam takes.
    check(s.has("lr0"), "{}: 'solver.lr0' is missing, 'solver.optimizer' \"{}\" needs its own",
          s.where(), c.optimizer);
    c.warmup_bias_lr = 0;
  }
  check(c.adam() || !s.has("betas"),
        "{}: 'solver.betas' goes with 'solver.optimizer' \"adam\" or \"adamw\"", s.where());
  s.get("betas", c.betas);
  check(
      c.betas.size() == 2 && std::ranges::all_of(c.betas, [](double b) { return b >= 0 && b < 1; }),
      "{}: 'solver.betas' is [{}], must be two numbers in [0, 1)", s.where(),
      fmt::join(c.betas, ", "));
  s.number("lr0", c.lr0, 0, 10);
  s.number("lrf", c.lrf, 0, 1);
  s.choice("schedule", c.schedule, {"cosine", "constant"});
  s.number("momentum", c.momentum, 0, 0.9999);
  s.number("weight_decay", c.weight_decay, 0, 1);
  s.number("warmup_epochs", c.warmup_epochs, 0, 100000);
  s.number("warmup_iterations", c.warmup_iterations, -1, 1e9);
  s.number("warmup_momentum", c.warmup_momentum, 0, 0.9999);
  s.number("warmup_bias_lr", c.warmup_bias_lr, 0, 10);
  s.number("nominal_batch", c.nominal_batch, 1, 65536);
  s.number("ema_decay", c.ema_decay, 0, 1);
  s.number("ema_tau", c.ema_tau, 1e-3, 1e9);
  s.finish();
}

}  // namespace

void RunConfig::read(ConfigReader& r, const std::string& folder) {
  r.get("seed", seed);
  r.choice("device", device, {"auto", "cpu", "cuda"});
  r.number("epochs", epochs, 1, 100000);
  r.number("batch", batch, 1, 4096);
  r.number("image_size", image_size, 64, 4096);
  r.number("workers", workers, 1, 256);
  r.number("close_mosaic", close_mosaic, 0, 100000);
  r.number("eval_interval", eval_interval, 1, 100000);
  r.number("eval_conf", eval_conf, 0, 1);
  r.number("eval_iou", eval_iou, 0, 1);
  r.number("cache_mb", cache_mb, 0, 1 << 20);
  r.number("patience", patience, 0, 100000);

  ConfigReader d = r.child("data");
  d.require("path", data.path);
  data.path = beside(folder, data.path);
  d.get("train", data.train);
  d.get("val", data.val);
  d.choice("on_error", data.on_error, {"skip", "stop"});
  d.finish();

  read_solver(r.child("solver"), solver);

  ConfigReader a = r.child("augment");
  a.number("degrees", augment.degrees, 0, 180);
  a.number("translate", augment.translate, 0, 0.9);
  a.number("scale", augment.scale, 0, 0.9);
  a.number("shear", augment.shear, 0, 60);
  a.number("flipud", augment.flipud, 0, 1);
  a.number("fliplr", augment.fliplr, 0, 1);
  a.number("mosaic", augment.mosaic, 0, 1);
  a.number("mixup", augment.mixup, 0, 1);
  a.number("hsv_h", augment.hsv_h, 0, 1);
  a.number("hsv_s", augment.hsv_s, 0, 1);
  a.number("hsv_v", augment.hsv_v, 0, 1);
  a.finish();
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
}

}  // namespace

TrainConfig parse_train_config(const Json& json, const std::string& where,
                               const std::string& folder) {
  TrainConfig c;
  ConfigReader r(json, where);
  c.read(r, folder);
  r.number("multi_scale", c.multi_scale, 0, 0.9);
  r.number("gray_border", c.gray_border, 0, 64);
  check(2 * c.gray_border < c.image_size, "{}: 'gray_border' is {}, leaves nothing of {} pixels",
        where, c.gray_border, c.image_size);
  r.get("init", c.init);
  if (!c.init.empty()) c.init = beside(folder, c.init);
  r.get("freeze", c.freeze);

  ConfigReader m = r.child("model");
  c.model = m.json();
  read_training(r.child("training"), c);
  // Mistakes are reported now, not after the data has been read.
  const Yolov6Config model = read_yolov6_config(ConfigReader(c.model, where, "model."), 1);
  check(c.image_size % model.max_stride() == 0, "{}: 'image_size' is {}, must be a multiple of {}",
        where, c.image_size, model.max_stride());
  ConfigReader l = r.child("loss");
  c.loss = l.json();
  check_objectness(read_loss_config(l, model.loss()), model.objectness, where);
  r.choice("precision", c.precision, {"fp32", "fp16", "bf16"});
  r.get("cuda_graph", c.cuda_graph);
  r.get("teacher", c.teacher);
  if (!c.teacher.empty()) c.teacher = beside(folder, c.teacher);

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
