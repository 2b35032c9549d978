// SPDX-License-Identifier: Apache-2.0
#include "apps/training/trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "apps/model_files/checkpoint.h"
#include "apps/model_files/import.h"
#include "apps/training/solver.h"
#include "apps/training/train_step.h"
#include "core/class_names.h"
#include "core/outputs.h"
#include "data/image/resize.h"
#include "data/loading/device_painter.h"
#include "deploy/graph/file.h"

namespace sextant::apps {
namespace {

namespace fs = std::filesystem;

DType activation_type(const TrainConfig& config, Device device) {
  if (config.precision == TrainPrecision::kFloat32) return DType::kF32;
  check(device == Device::kCuda, "{}: 'precision' is \"{}\", which needs a GPU; the device is {}",
        config.where, name_of(config.precision), name_of(device));
  return config.precision == TrainPrecision::kFloat16 ? DType::kF16 : DType::kBF16;
}

class DetectorTask final : public TrainingTask {
 public:
  DetectorTask(const TrainConfig& config, const RunData& data, bool resuming,
               const optim::RepScales* scales)
      : config_(config),
        names_(data.train.names),
        model_config_(read_yolov6_config(ConfigReader(config.model, config.where, "model."),
                                         data.train.num_classes())),
        device_(deploy::choose_device(config.device)),
        type_(activation_type(config, device_)),
        loss_(loss_config()),
        model_(std::make_unique<Yolov6>(model_config_, config.seed)) {  // on the host
    if (!config.init.empty() && !resuming) read_weights();
    freeze_modules();
    collect_parameters();
    if (scales != nullptr) start_from(*scales);
    move_to_device();
    if (!config.teacher.empty()) load_teacher();
    if (type_ == DType::kF16) scaler_.emplace(device_);
    // Images of another size cannot take the place of those recorded.
    const bool record = config.cuda_graph && config.multi_scale == 0;
    step_.emplace(*model_, loss_, teacher_.get(), scaler(),
                  TrainStepConfig{.type = type_, .record = record, .sync_bn = config.sync_bn});
  }

  TaskTraits traits() const override {
    return {.device = device_,
            .gray_border = config_.gray_border,
            .local_statistics = !config_.sync_bn,
            .has_losses = true};
  }
  const Module& module() const override { return *model_; }
  std::vector<optim::NamedParameter> parameters() const override { return parameters_; }
  optim::GradScaler* scaler() override { return scaler_ ? &*scaler_ : nullptr; }

  Json resolved_config() const override {
    Json json = config_.json();
    json["model"] = model_config_.json();
    json["loss"] = loss_.config().json();
    return json;
  }
  Json resume_key() const override {
    Json json = resolved_config();
    if (scales_fingerprint_) json["scales"] = *scales_fingerprint_;
    return json;
  }

  void begin_epoch(int64_t epoch) override {
    epoch_ = epoch;
    model_->train(true);
  }

  std::function<LossItems()> iterate(const data::Batch& batch, int64_t iteration) override {
    const data::ImageSize size = size_of(iteration);
    const LossValues values =
        step_->run(resized(batch.images, size), batch.targets, epoch_, batch.whole, batch.counts);
    return [values] { return values.items(); };
  }

  LossItems losses(const data::Batch& batch) override {
    model_->train(false);
    const LossItems items = step_->measure(batch.images, batch.targets, epoch_).items();
    model_->train(true);
    return items;
  }

  // Traced on the host.
  deploy::Graph graph() override {
    if (device_ == Device::kCpu) return to_graph(*model_, checkpoint_info({}));
    SafeTensors state;
    model_->save_state(state);
    Yolov6 copy(model_config_, config_.seed);
    copy.load_state(state);
    return to_graph(copy, checkpoint_info({}));
  }

  void save(const fs::path& path, const EpochRow& row) override {
    save_checkpoint(path, *model_, checkpoint_info(row));
  }

  void finish(const RunFolder& folder, const RunResult& result) override {
    const fs::path deployed = folder.path() / "model.safetensors";
    deploy::save_deploy(deployed, load_model_graph(folder.best().string()));
    fmt::print("best epoch {}: mAP50 {:.4f}, mAP50-95 {:.4f}; deploy file {}\n", result.best_epoch,
               result.best_map50, result.best_map50_95, deployed.string());
  }

 private:
  LossConfig loss_config() const {
    LossConfig c =
        read_loss_config(ConfigReader(config_.loss, config_.where, "loss."), model_config_.loss());
    check_objectness(c, model_config_.objectness, config_.where);
    c.max_epoch = config_.epochs;
    c.name_classes(names_, config_.where);
    return c;
  }

  void read_weights() {
    const SafeTensors file = load_weights(config_.init);
    int64_t fresh = 0;
    try {
      fresh = initialise_from(file, *model_, names_);
    } catch (const Error& e) {
      fail("{}; `sextant {} {}` says which model it is", e.what(),
           is_torch_name(config_.init) ? "import" : "info", config_.init);
    }
    const std::string difference = class_difference(class_names_of(file), names_);
    fmt::print("weights from {}{}{}\n", config_.init,
               fresh > 0 ? fmt::format("; {} tensors of the predictions start anew", fresh) : "",
               difference.empty() ? "" : " (other classes than the data: " + difference + ")");
  }

  void freeze_modules() {
    for (const auto& path : config_.freeze) {
      Module* module = model_->find(path);
      check(module != nullptr && !path.empty(), "{}: 'freeze' names '{}', which is not a module",
            config_.where, path);
      module->freeze();
    }
    check(std::ranges::any_of(model_->parameters(),
                              [](const auto& p) { return p.variable.requires_grad(); }),
          "{}: 'freeze' leaves nothing to train", config_.where);
  }

  void collect_parameters() {
    for (const auto& p : model_->parameters())
      parameters_.push_back(optim::named_parameter(p.name, p.variable));
  }

  // The weights of the blocks that scales belong to get another start, and gradient multipliers.
  void start_from(const optim::RepScales& scales) {
    const auto handlers = optim::rep_handlers(scales, scales_of_search(model_config_), parameters_);
    Rng rng(config_.seed, 0x7265706f7074);  // a stream of its own ("repopt")
    if (config_.init.empty()) optim::reinitialise(handlers, parameters_, rng);
    optim::set_multipliers(handlers, parameters_, rep_rule(config_.solver));
    scales_fingerprint_ = scales.fingerprint();
  }

  void move_to_device() {
    if (device_ != Device::kCpu) {
      model_->to(device_);
      const auto there = model_->parameters();
      for (size_t i = 0; i < parameters_.size(); ++i) {
        parameters_[i].variable = there[i].variable;
        parameters_[i].multiplier = parameters_[i].multiplier.to(device_);
      }
    }
    std::erase_if(parameters_, [](const auto& p) { return !p.variable.requires_grad(); });
  }

  // The trained model that a student is drawn to. It stays in evaluation mode, as it is deployed
  // (the official teacher normalises by the statistics of the batch).
  void load_teacher() {
    LoadedCheckpoint teacher = load_checkpoint(load_weights(config_.teacher));
    reorder_classes(*teacher.model, match_classes(teacher.info.class_names, config_.teacher, names_,
                                                  config_.data.path));
    teacher_ = std::move(teacher.model);
    teacher_->to(device_);
  }

  // The size of an iteration's images, of the same shape but for rounding.
  data::ImageSize size_of(int64_t iteration) const {
    constexpr uint64_t kStream = 0x7363616C65;  // of its own ("scale")
    const data::ImageSize whole{config_.width(), config_.image_size};
    if (config_.multi_scale == 0) return whole;
    const int64_t step = model_config_.size_multiple();
    const double size = config_.image_size / static_cast<double>(step);
    const int64_t low =
        std::max<int64_t>(1, static_cast<int64_t>(std::ceil(size * (1 - config_.multi_scale))));
    const int64_t high =
        std::max<int64_t>(low, static_cast<int64_t>(size * (1 + config_.multi_scale)));
    Rng rng(config_.seed ^ kStream, static_cast<uint64_t>(iteration));
    const int64_t height = step * (low + rng.below(high - low + 1));
    const double width = static_cast<double>(whole.width * height) / whole.height;
    const auto steps = static_cast<int64_t>(std::round(width / static_cast<double>(step)));
    return {static_cast<int>(step * std::max<int64_t>(1, steps)), static_cast<int>(height)};
  }

  Tensor resized(const Tensor& images, data::ImageSize size) const {
    if (size == data::ImageSize{config_.width(), config_.image_size}) return images;
    return device_ == Device::kCpu ? data::resize_batch(images, size.height, size.width)
                                   : data::resize_device_batch(images, size.height, size.width);
  }

  CheckpointInfo checkpoint_info(const EpochRow& row) const {
    CheckpointInfo info{model_config_.json(), names_, config_.image_size, config_.gray_border,
                        row.epoch};
    info.image_width = config_.image_width;
    if (row.map50_95 >= 0) info.metrics = {{"map50", row.map50}, {"map50_95", row.map50_95}};
    return info;
  }

  const TrainConfig& config_;
  const std::vector<std::string> names_;  // of the classes
  const Yolov6Config model_config_;
  const Device device_;
  const DType type_;  // of activations in training
  const DetectionLoss loss_;
  const std::unique_ptr<Yolov6> model_;
  std::vector<optim::NamedParameter> parameters_;
  std::optional<std::string> scales_fingerprint_;  // of RepOptimizer
  std::unique_ptr<Yolov6> teacher_;
  std::optional<optim::GradScaler> scaler_;
  std::optional<TrainStep> step_;
  int64_t epoch_ = 0;
};

}  // namespace

std::unique_ptr<TrainingTask> make_detector_task(const TrainConfig& config, const RunData& data,
                                                 bool resuming, const optim::RepScales* scales) {
  return std::make_unique<DetectorTask>(config, data, resuming, scales);
}

RunResult train(const TrainConfig& config, const fs::path& out, bool resume, int64_t stop_after,
                const optim::RepScales* scales) {
  check((config.training.mode == TrainingScheme::kRepOpt) == (scales != nullptr),
        "{}: 'training.mode' \"{}\" {} scales", config.where, name_of(config.training.mode),
        scales != nullptr ? "takes no" : "needs");
  check_outputs(
      {.inputs = {}, .datasets = {config.data.path}, .outputs = {}, .folders = {out.string()}});
  const RunFolder folder(out, resume);
  folder.check_inputs({config.init, config.teacher});
  const RunData data(config.data);
  DetectorTask task(config, data, folder.resuming(), scales);
  return Run(config, folder, data, task).train(stop_after);
}

}  // namespace sextant::apps
