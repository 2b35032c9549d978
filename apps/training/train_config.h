// The JSON config of a training run.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/config.h"
#include "data/augment/augment.h"
#include "models/yolov6_config.h"

namespace sextant::apps {

struct DataConfig {
  std::string path;  // dataset folder, JSON or data.yaml; relative to the config file
  std::string train = "train";
  std::string val = "val";
  std::string on_error = "skip";  // or "stop": what a mistake in labels or images leads to
};

struct SolverConfig {
  std::string optimizer = "sgd";  // or "adam", "adamw" (decoupled weight decay)
  double lr0 = 0.02;
  double lrf = 0.01;
  std::string schedule = "cosine";
  double momentum = 0.937;                   // of sgd
  std::vector<double> betas = {0.9, 0.999};  // of adam and adamw
  double weight_decay = 5e-4;
  double warmup_epochs = 3.0;
  int64_t warmup_iterations = -1;  // used instead of warmup_epochs when not negative
  double warmup_momentum = 0.8;
  double warmup_bias_lr = 0.1;
  int64_t nominal_batch = 64;  // gradients are accumulated up to about so many images
  double ema_decay = 0.9999;
  double ema_tau = 2000;

  bool adam() const { return optimizer != "sgd"; }
  Json json() const;
};

// How the model is arrived at: trained as `model` says, or by RepOptimizer
// (apps/training/repopt.h).
struct TrainingConfig {
  std::string mode = "plain";  // or "repopt"
  int64_t search_epochs = 0;   // repopt: "search.epochs"; when not given, the run's epochs

  Json json() const;
};

// What every kind of training has.
struct RunConfig {
  uint64_t seed = 0;
  std::string device = "auto";
  int64_t epochs = 60;
  int64_t batch = 16;
  int image_size = 320;
  int workers = 1;
  int64_t close_mosaic = 10;  // the last epochs are without mosaic and mixup
  int64_t eval_interval = 5;  // epochs between evaluations; the last epoch is always evaluated
  double eval_conf = 0.03;
  double eval_iou = 0.65;
  int64_t cache_mb = 1024;
  int64_t patience = 0;  // epochs without a better mAP50-95 that end the run; 0: never
  DataConfig data;
  SolverConfig solver;
  data::AugmentConfig augment;

  Json json() const;
  // The keys of these fields; what is absent keeps its value. Paths are relative to `folder`.
  void read(ConfigReader& reader, const std::string& folder);
};

struct TrainConfig : RunConfig {
  // Each batch is resized to a side drawn from image_size * [1 - multi_scale, 1 + multi_scale].
  double multi_scale = 0;
  int64_t gray_border = 0;          // pixels of each side of every image that stay grey
  std::string init;                 // checkpoint to start from; relative to the config file
  std::vector<std::string> freeze;  // modules that are not trained: "backbone", "neck.Rep_p4"
  TrainingConfig training;
  // What activations are held and multiplied in: "fp32", or on a GPU "fp16" (with a loss scale) or
  // "bf16"; weights, statistics and losses stay fp32.
  std::string precision = "fp32";
  bool cuda_graph = true;  // on a GPU, steps are recorded and replayed (apps/training/train_step.h)
  Json model = Json::object();  // as given; read once the number of classes is known
  Json loss = Json::object();   // as given; what is absent comes from the model
  std::string teacher;          // self-distillation: a trained checkpoint of the same shape

  Json json() const;
};

// Reads and validates. Throws Error naming file and key: unknown (with the nearest valid name),
// missing, of the wrong type or out of range. `overrides` are "a.b=value".
TrainConfig load_train_config(const std::string& path, const std::vector<std::string>& overrides);
// The same from JSON; relative paths are taken relative to `folder`.
TrainConfig parse_train_config(const Json& json, const std::string& where,
                               const std::string& folder);

// A path of a config, relative to the folder the config lies in.
std::string beside(const std::string& folder, const std::string& path);

// The first key, dotted, in which two configs differ; nothing when they are equal.
std::optional<std::string> first_difference(const Json& a, const Json& b);

}  // namespace sextant::apps
