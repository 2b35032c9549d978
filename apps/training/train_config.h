// SPDX-License-Identifier: Apache-2.0
// The JSON config of a training run.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/config_fields.h"
#include "data/augment/augment.h"
#include "data/dataset/dataset.h"
#include "deploy/detect/choices.h"
#include "models/yolov6_config.h"
#include "optim/schedule.h"

namespace sextant::apps {

struct DataConfig {
  std::string path;  // dataset folder, JSON or data.yaml; relative to the config file
  std::string train = "train";
  std::string val = "val";
  data::OnError on_error = data::OnError::kSkip;
  double fraction = 1;      // of the training images, drawn by their names
  bool single_cls = false;  // all classes count as one

  data::Dataset open(const std::string& split,
                     const std::optional<data::ClassList>& classes = std::nullopt) const;
  // The part of `train` that is trained on.
  data::Dataset open_train(const std::optional<data::ClassList>& classes = std::nullopt) const;
  void fields(ConfigFields& f);
};

// kAdamW: with decoupled weight decay.
enum class OptimizerKind { kSgd, kAdam, kAdamW };
constexpr auto enum_names(OptimizerKind) {
  return make_enum_names<OptimizerKind>("optimizer", {{OptimizerKind::kSgd, "sgd"},
                                                      {OptimizerKind::kAdam, "adam"},
                                                      {OptimizerKind::kAdamW, "adamw"}});
}

struct SolverConfig {
  OptimizerKind optimizer = OptimizerKind::kSgd;
  double lr0 = 0.02;
  double lrf = 0.01;
  optim::ScheduleShape schedule = optim::ScheduleShape::kCosine;
  double momentum = 0.937;                   // of sgd
  std::vector<double> betas = {0.9, 0.999};  // of adam and adamw
  double weight_decay = 5e-4;
  double warmup_epochs = 3.0;
  int64_t warmup_iterations = -1;  // used instead of warmup_epochs when not negative
  double warmup_momentum = 0.8;
  double warmup_bias_lr = 0.1;
  int64_t nominal_batch = 64;  // gradients are accumulated up to about so many images
  double ema_decay = 0.9999;   // 0: no moving average
  double ema_tau = 2000;

  bool adam() const { return optimizer != OptimizerKind::kSgd; }
  void fields(ConfigFields& f);
};

// How the model is trained: as `model` says, or by RepOptimizer
// (apps/training/repopt.h).
enum class TrainingScheme { kPlain, kRepOpt };
constexpr auto enum_names(TrainingScheme) {
  return make_enum_names<TrainingScheme>(
      "training mode", {{TrainingScheme::kPlain, "plain"}, {TrainingScheme::kRepOpt, "repopt"}});
}

struct TrainingConfig {
  TrainingScheme mode = TrainingScheme::kPlain;
  int64_t search_epochs = 0;  // kRepOpt: "search.epochs"; when not given, the run's epochs

  void fields(ConfigFields& f);
};

// What activations are held and multiplied in; weights, statistics and losses stay fp32. The 16-bit
// ones need a GPU; fp16 comes with a loss scale.
enum class TrainPrecision { kFloat32, kFloat16, kBFloat16 };
constexpr auto enum_names(TrainPrecision) {
  return make_enum_names<TrainPrecision>("precision", {{TrainPrecision::kFloat32, "fp32"},
                                                       {TrainPrecision::kFloat16, "fp16"},
                                                       {TrainPrecision::kBFloat16, "bf16"}});
}

// The keys that all kinds of training share.
struct RunConfig {
  std::string where = "config";  // its file, for messages
  uint64_t seed = 0;
  deploy::DeviceChoice device = deploy::DeviceChoice::kAuto;
  int64_t epochs = 60;
  int64_t batch = 16;
  int image_size = 320;  // height, and width where that is 0
  int image_width = 0;
  int workers = 0;            // loader threads; 0: one per processor
  int64_t close_mosaic = 10;  // the last epochs are without mosaic and mixup
  int64_t eval_interval = 5;  // epochs between evaluations; the last epoch is always evaluated
  double eval_conf = 0.03;
  double eval_iou = 0.65;
  int64_t cache_mb = -1;    // -1: half of the memory that is free
  int64_t save_period = 0;  // epochs between checkpoints that are kept; 0: none are
  int64_t patience = 0;     // epochs without a better mAP50-95 that end the run; 0: never
  int64_t bucket_mb = 25;   // with several processes, gradients are summed in pieces of this size
  DataConfig data;
  SolverConfig solver;
  data::AugmentConfig augment;

  void fields(ConfigFields& f);
  int width() const { return image_width > 0 ? image_width : image_size; }
};

struct TrainConfig : RunConfig {
  // Each batch is resized to image_size times a number drawn from [1 - multi_scale, 1 + multi_scale].
  double multi_scale = 0;
  int64_t gray_border = 0;          // pixels of each side of every image that stay grey
  std::string init;                 // checkpoint to start from; relative to the config file
  std::vector<std::string> freeze;  // modules that are not trained: "backbone", "neck.Rep_p4"
  TrainingConfig training;
  TrainPrecision precision = TrainPrecision::kFloat32;
  bool sync_bn = true;     // with several processes, batch statistics are those of the whole batch
  bool cuda_graph = true;  // on a GPU, steps are recorded and replayed (apps/training/train_step.h)
  Json model = Json::object();  // as given; read once the number of classes is known
  Json loss = Json::object();   // as given; what is absent comes from the model
  std::string teacher;          // self-distillation: a trained checkpoint of the same shape

  void fields(ConfigFields& f);
  Json json() const { return fields_to_json(*this); }
};

// Reads and validates. Throws Error naming the file (`where`) and key: unknown (with the nearest
// valid name), missing, of the wrong type or out of range. Relative paths are taken relative to
// `folder`.
TrainConfig parse_train_config(const Json& json, const std::string& where,
                               const std::string& folder);

}  // namespace sextant::apps
