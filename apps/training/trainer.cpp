#include "apps/training/trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "apps/model_files/checkpoint.h"
#include "apps/training/run_folder.h"
#include "apps/training/solver.h"
#include "apps/training/train_epoch.h"
#include "apps/training/train_step.h"
#include "core/class_names.h"
#include "core/file.h"
#include "data/image/resize.h"
#include "data/loading/device_painter.h"
#include "data/loading/loader.h"
#include "deploy/detect/choices.h"
#include "deploy/detect/evaluation.h"
#include "deploy/graph/file.h"
#include "models/loss/detection_loss.h"
#include "optim/schedule.h"

namespace sextant::apps {
namespace {

namespace fs = std::filesystem;

optim::Schedule make_schedule(const TrainConfig& c, int64_t iterations_per_epoch) {
  optim::ScheduleConfig s;
  s.shape = optim::schedule_shape_from_name(c.solver.schedule);
  s.epochs = c.epochs;
  s.iterations_per_epoch = iterations_per_epoch;
  s.lr0 = c.solver.lr0;
  s.lrf = c.solver.lrf;
  s.warmup_epochs = c.solver.warmup_epochs;
  s.warmup_iterations = c.solver.warmup_iterations;
  s.warmup_bias_lr = c.solver.warmup_bias_lr;
  s.momentum = c.solver.momentum;
  s.warmup_momentum = c.solver.warmup_momentum;
  s.batch = c.batch;
  s.nominal_batch = c.solver.nominal_batch;
  return optim::Schedule(s);
}

class Trainer {
 public:
  Trainer(const TrainConfig& config, fs::path out, bool resume, const optim::RepScales* scales)
      : config_(config),
        out_(std::move(out)),
        resuming_(resume && fs::exists(state_file())),
        train_set_(data::open_dataset(config.data.path, config.data.train, {config.data.on_error})),
        val_set_(data::open_dataset(config.data.path, config.data.val,
                                    {config.data.on_error, data::class_list(train_set_)})),
        model_config_(read_yolov6_config(ConfigReader(config.model, "model", "model."),
                                         train_set_.num_classes())),
        device_(deploy::choose_device(config.device)),
        type_(activation_type(config.precision, device_)),
        scaler_(type_ == DType::kF16 ? std::make_unique<optim::GradScaler>(device_) : nullptr),
        model_(start_model()),
        parameters_(make_parameters(scales)),
        teacher_(load_teacher()),
        loss_(loss_config()),
        ema_(named_state(), config.solver.ema_decay, config.solver.ema_tau),
        optimizer_(make_optimizer(config, parameters_)),
        step_(*model_, loss_, teacher_.get(), scaler_.get(),
              {.type = type_, .record = config.cuda_graph && config.multi_scale == 0}),
        loader_(train_set_, loader_config(config, device_, config.gray_border)),
        schedule_(make_schedule(config, loader_.batches_per_epoch())) {
    optimizer_->average_into(ema_);
    print_report(train_set_);
    print_report(val_set_);
    data::check_has_boxes(train_set_);
    data::check_has_boxes(val_set_);
    resolved_ = config.json();
    resolved_["model"] = model_config_.json();
    resolved_["loss"] = loss_.config().json();
    resumable_ = resolved_;
    if (scales != nullptr) resumable_["scales"] = scales->fingerprint();
  }

  TrainResult run(int64_t stop_after) {
    if (resuming_)
      state_ = load_run(state_file(), resumable_, *model_, &ema_, *optimizer_, scaler_.get());
    write_atomically(out_ / "config.json", json_text(resolved_, 2) + "\n");
    fmt::print("{}; {} parameters; {} iterations per epoch{}\n",
               describe_data(train_set_, val_set_), parameter_count(), loader_.batches_per_epoch(),
               state_.epoch > 0 ? fmt::format("; going on with epoch {}", state_.epoch + 1) : "");
    if (finished()) fmt::print("the run is complete\n");
    for (; !finished(); ++trained_) {
      if (stop_after > 0 && trained_ == stop_after) return result();
      one_epoch();
    }
    finish();
    return result();
  }

 private:
  static DType activation_type(const std::string& precision, Device device) {
    if (precision == "fp32") return DType::kF32;
    check(device == Device::kCuda,
          "training: 'precision' is \"{}\", which needs a GPU; the device is {}", precision,
          name_of(device));
    return precision == "fp16" ? DType::kF16 : DType::kBF16;
  }

  std::unique_ptr<Yolov6> start_model() const {
    auto model = std::make_unique<Yolov6>(model_config_, config_.seed);
    if (!config_.init.empty() && !resuming_) {
      const SafeTensors file = load_safetensors(config_.init);
      const int64_t fresh = initialise_from(file, *model, train_set_.names);
      const std::string difference = class_difference(class_names_of(file), train_set_.names);
      fmt::print("weights from {}{}{}\n", config_.init,
                 fresh > 0 ? fmt::format("; {} tensors of the predictions start anew", fresh) : "",
                 difference.empty() ? "" : " (other classes than the data: " + difference + ")");
    }
    for (const auto& path : config_.freeze) {
      Module* module = model->find(path);
      check(module != nullptr && !path.empty(), "training: 'freeze' names '{}', which is no module",
            path);
      module->freeze();
    }
    check(std::ranges::any_of(model->parameters(),
                              [](const auto& p) { return p.variable.requires_grad(); }),
          "training: 'freeze' leaves nothing to train");
    return model;
  }
  // The trained model that a student is drawn to; null without one. It stays in evaluation mode, as
  // it is deployed (the official teacher normalises by the statistics of the batch).
  std::unique_ptr<Yolov6> load_teacher() const {
    if (config_.teacher.empty()) return nullptr;
    LoadedCheckpoint teacher = load_checkpoint(load_safetensors(config_.teacher));
    reorder_classes(*teacher.model, match_classes(teacher.info.class_names, config_.teacher,
                                                  train_set_.names, config_.data.path));
    teacher.model->to(device_);
    return std::move(teacher.model);
  }
  LossConfig loss_config() const {
    LossConfig c =
        read_loss_config(ConfigReader(config_.loss, "loss", "loss."), model_config_.loss());
    check_objectness(c, model_config_.objectness, "training");
    c.max_epoch = config_.epochs;
    return c;
  }
  fs::path state_file() const { return out_ / "resume.safetensors"; }
  bool finished() const {
    return state_.epoch >= config_.epochs || (config_.patience > 0 && state_.best_epoch > 0 &&
                                              state_.epoch - state_.best_epoch >= config_.patience);
  }
  CheckpointInfo checkpoint_info() const {
    return {model_config_.json(), train_set_.names, config_.image_size, config_.gray_border,
            state_.epoch};
  }
  optim::NamedTensors named_state() const {
    optim::NamedTensors out;
    for (const auto& s : model_->state()) out.emplace_back(s.name, s.tensor);
    return out;
  }
  // With scales, the weights of their blocks get another start and multipliers. The model, made on
  // the host, goes to its device here.
  std::vector<optim::NamedParameter> make_parameters(const optim::RepScales* scales) const {
    std::vector<optim::NamedParameter> out;
    for (const auto& p : model_->parameters())
      out.push_back(optim::named_parameter(p.name, p.variable));
    if (scales != nullptr) {
      const auto handlers = optim::rep_handlers(*scales, scales_of_search(model_config_), out);
      Rng rng(config_.seed, 0x7265706f7074);  // a stream of its own ("repopt")
      if (config_.init.empty()) optim::reinitialise(handlers, out, rng);
      optim::set_multipliers(handlers, out, rep_rule(config_.solver));
    }
    if (device_ != Device::kCpu) {
      model_->to(device_);
      const auto there = model_->parameters();
      for (size_t i = 0; i < out.size(); ++i) {
        out[i].variable = there[i].variable;
        out[i].multiplier = out[i].multiplier.to(device_);
      }
    }
    std::erase_if(out, [](const auto& p) { return !p.variable.requires_grad(); });
    return out;
  }
  // Of the averages' scope. Tracing is done on the host.
  deploy::Graph graph(const CheckpointInfo& info) const {
    if (device_ == Device::kCpu) return to_graph(*model_, info);
    SafeTensors state;
    model_->save_state(state);
    Yolov6 copy(model_config_, config_.seed);
    copy.load_state(state);
    return to_graph(copy, info);
  }
  int64_t parameter_count() const {
    int64_t n = 0;
    for (const auto& p : model_->parameters()) n += p.variable.data().numel();
    return n;
  }
  // The side of an iteration's images.
  int64_t side_of(int64_t iteration) const {
    constexpr uint64_t kStream = 0x7363616C65;  // of its own ("scale")
    if (config_.multi_scale == 0) return config_.image_size;
    const int64_t step = model_config_.max_stride();
    const double size = config_.image_size / static_cast<double>(step);
    const int64_t low =
        std::max<int64_t>(1, static_cast<int64_t>(std::ceil(size * (1 - config_.multi_scale))));
    const int64_t high =
        std::max<int64_t>(low, static_cast<int64_t>(size * (1 + config_.multi_scale)));
    Rng rng(config_.seed ^ kStream, static_cast<uint64_t>(iteration));
    return step * (low + rng.below(high - low + 1));
  }

  static Tensor resized(const Tensor& images, int side) {
    return images.device() == Device::kCpu ? data::resize_batch(images, side, side)
                                           : data::resize_device_batch(images, side, side);
  }

  // One forward and backward pass; the gradients add up in the parameters.
  LossValues iterate(const data::Batch& batch, int64_t side) {
    const Tensor images =
        side == config_.image_size ? batch.images : resized(batch.images, static_cast<int>(side));
    return step_.run(images, batch.targets, state_.epoch);
  }

  static LossItems finite_items(const LossValues& values, int64_t epoch) {
    const LossItems items = values.items();
    check(std::isfinite(items.total()),
          "training: the loss is not finite in epoch {}; a lower solver.lr0 may help", epoch + 1);
    return items;
  }

  void one_epoch() {
    const int64_t epoch = state_.epoch;
    model_->train(true);
    optimizer_->zero_grad();  // an accumulation that the last epoch left unfinished; officially so
    const EpochRow row =
        run_epoch({config_, epoch, loader_, train_set_.names, out_},
                  [&](const data::Batch& batch, int64_t iteration) {
                    const optim::StepValues v = schedule_.at(iteration);
                    const LossValues values = iterate(batch, side_of(iteration));
                    if (v.step) {
                      if (scaler_)
                        scaler_->step(*optimizer_, v.lr, v.momentum);
                      else
                        optimizer_->step(v.lr, v.momentum);
                      optimizer_->zero_grad();
                    }
                    return Iteration{[=] { return finite_items(values, epoch); }, v.lr[1]};
                  });
    state_.epoch = epoch + 1;
    finish_epoch(row);
  }

  void finish_epoch(EpochRow row) {
    const bool evaluated =
        state_.epoch % config_.eval_interval == 0 || state_.epoch == config_.epochs;
    CheckpointInfo info = checkpoint_info();
    {
      const optim::EmaScope average(ema_);
      if (evaluated) {
        const deploy::EvalResult r = deploy::evaluate(
            graph(info), val_set_, config_.image_size, deploy::Precision::kFloat32,
            {.conf = config_.eval_conf, .iou = config_.eval_iou, .device = device_});
        row.map50 = std::max(0.0, r.metrics.ap50);
        row.map50_95 = std::max(0.0, r.metrics.ap);
        info.metrics = {{"map50", row.map50}, {"map50_95", row.map50_95}};
      }
      if (evaluated && row.map50_95 > state_.best_map50_95) {
        state_.best_map50 = row.map50;
        state_.best_map50_95 = row.map50_95;
        state_.best_epoch = state_.epoch;
        save_checkpoint(out_ / "best.safetensors", *model_, info);
      }
      save_checkpoint(out_ / "last.safetensors", *model_, info);
    }
    state_.rows.push_back(row);
    write_results(out_ / "results.csv", state_.rows);
    write_curves(out_, state_.rows);
    save_run(state_file(), resumable_, state_, *model_, &ema_, *optimizer_, scaler_.get());
    print_epoch(row, config_.epochs);
  }

  void finish() {
    if (state_.epoch < config_.epochs)
      fmt::print("no better mAP50-95 in {} epochs: stopped after epoch {}\n",
                 state_.epoch - state_.best_epoch, state_.epoch);
    deploy::save_deploy(out_ / "model.safetensors",
                        load_model_graph((out_ / "best.safetensors").string()));
    fmt::print("best epoch {}: mAP50 {:.4f}, mAP50-95 {:.4f}; deploy file {}\n", state_.best_epoch,
               state_.best_map50, state_.best_map50_95, (out_ / "model.safetensors").string());
  }

  TrainResult result() const {
    TrainResult r{
        state_.best_map50_95, state_.best_map50, state_.best_epoch, 0, trained_, finished()};
    for (const auto& row : state_.rows)
      r.seconds_per_epoch += row.seconds / static_cast<double>(state_.rows.size());
    return r;
  }

  TrainConfig config_;
  fs::path out_;
  bool resuming_;
  data::Dataset train_set_, val_set_;
  Yolov6Config model_config_;
  Device device_;
  DType type_;                                 // of activations in training
  std::unique_ptr<optim::GradScaler> scaler_;  // for f16
  std::unique_ptr<Yolov6> model_;
  std::vector<optim::NamedParameter> parameters_;
  std::unique_ptr<Yolov6> teacher_;
  DetectionLoss loss_;
  optim::ModelEma ema_;
  std::unique_ptr<optim::Optimizer> optimizer_;
  TrainStep step_;
  data::Loader loader_;
  optim::Schedule schedule_;
  Json resolved_;
  Json resumable_;  // what a run has to agree in to be resumed: resolved_ and the scales
  RunState state_;
  int64_t trained_ = 0;  // epochs of this call
};

}  // namespace

TrainResult train(const TrainConfig& config, const fs::path& out, bool resume, int64_t stop_after,
                  const optim::RepScales* scales) {
  check((config.training.mode == "repopt") == (scales != nullptr),
        "training: mode \"{}\" {} scales", config.training.mode,
        scales != nullptr ? "takes no" : "needs");
  check(resume || !fs::exists(out / "config.json"),
        "{}: already holds a run; go on with it (--resume) or choose another folder (--out)",
        out.string());
  Trainer trainer(config, out, resume, scales);
  return trainer.run(stop_after);
}

}  // namespace sextant::apps
