#include "apps/quantizing/qat.h"

#include <fmt/format.h>

#include <cmath>
#include <memory>
#include <optional>

#include "apps/quantizing/calibrate.h"
#include "apps/quantizing/qat_source.h"
#include "apps/training/run_folder.h"
#include "apps/training/solver.h"
#include "apps/training/train_epoch.h"
#include "core/file.h"
#include "data/loading/loader.h"
#include "deploy/detect/choices.h"
#include "deploy/detect/evaluation.h"
#include "deploy/graph/file.h"
#include "kernels/backend.h"
#include "layers/distill.h"
#include "models/loss/async_transfer.h"
#include "models/loss/detection_loss.h"
#include "optim/schedule.h"
#include "quant/training/distillation_teacher.h"

namespace sextant::apps {
namespace {

namespace fs = std::filesystem;

// The cosine goes from iteration to iteration: a few epochs make too coarse a staircase.
optim::Schedule make_schedule(const QatConfig& c, int64_t iterations_per_epoch) {
  optim::ScheduleConfig s;
  s.shape = optim::schedule_shape_from_name(c.solver.schedule);
  s.epochs = c.epochs * iterations_per_epoch;
  s.iterations_per_epoch = 1;
  s.lr0 = c.solver.lr0;
  s.lrf = c.solver.lrf;
  s.warmup_iterations =
      c.solver.warmup_iterations >= 0
          ? c.solver.warmup_iterations
          : std::llround(c.solver.warmup_epochs * static_cast<double>(iterations_per_epoch));
  s.warmup_bias_lr = c.solver.warmup_bias_lr;
  s.momentum = c.solver.momentum;
  s.warmup_momentum = c.solver.warmup_momentum;
  s.batch = c.batch;
  s.nominal_batch = c.solver.nominal_batch;
  s.lag_one_epoch = false;
  return optim::Schedule(s);
}

// Weights are decayed; biases, ranges and scales are not.
std::vector<optim::NamedParameter> optimizer_parameters(const quant::TrainableGraph& graph) {
  std::vector<optim::NamedParameter> out;
  for (const auto& p : graph.parameters())
    out.push_back(
        {p.name,
         p.variable,
         p.name.ends_with(".weight") ? optim::ParameterKind::kWeight : optim::ParameterKind::kBias,
         {}});
  return out;
}

// The weighted parts of a loss beside the detection loss, gathered on their device, whence they
// come when they are asked for.
class LossParts {
 public:
  void add(double LossItems::*item, const Variable& part) {
    items_.push_back(item);
    parts_.push_back(part.data());
  }
  // Parts are added to `items`.
  std::function<void(LossItems&)> fetch(loss_detail::AsyncTransfers& transfers) const {
    if (parts_.empty()) return [](LossItems&) {};
    const Device device = parts_[0].device();
    const int64_t n = std::ssize(parts_);
    const Tensor values(Shape{n}, DType::kF32, device);
    for (int64_t i = 0; i < n; ++i)
      kernels::backend(device).copy_channels(
          {1, 1, parts_[static_cast<size_t>(i)].raw(), 1, 0, values.raw(), n, i, DType::kF32});
    const auto transfer = device == Device::kCpu ? nullptr : transfers.next();
    if (transfer) transfer->download(values);
    return [items = items_, values, transfer](LossItems& to) {
      const auto* v =
          transfer ? reinterpret_cast<const float*>(transfer->downloaded()) : values.f32();
      for (size_t i = 0; i < items.size(); ++i) to.*items[i] += static_cast<double>(v[i]);
    };
  }

 private:
  std::vector<double LossItems::*> items_;
  std::vector<Tensor> parts_;
};

class QatRun {
 public:
  QatRun(const QatConfig& config, fs::path out, bool resume, const deploy::Graph* given)
      : config_(config),
        out_(std::move(out)),
        resuming_(resume && fs::exists(state_file())),
        source_(load_source_model(config.model)),
        train_set_(deploy::open_dataset_for(source_.graph, config.data.path, config.data.train,
                                            {config.data.on_error})),
        val_set_(deploy::open_dataset_for(source_.graph, config.data.path, config.data.val,
                                          {config.data.on_error})),
        device_(deploy::choose_device(config.device)),
        start_(load_start(given)),
        features_(find_features()),
        student_(start_, {.learn_activation_ranges = config.learn_scales,
                          .weights = config.weights(),
                          .features = features_,
                          .device = device_}),
        loss_(loss_config()),
        optimizer_(make_optimizer(config, optimizer_parameters(student_))),
        loader_(train_set_, loader_config(config, device_, source_.graph.gray_border)),
        schedule_(make_schedule(config, loader_.batches_per_epoch())) {
    data::check_has_boxes(train_set_);
    data::check_has_boxes(val_set_);
    check(train_set_.num_classes() == source_.loss.num_classes,
          "{}: has {} classes, the model {} has {}", train_set_.path, train_set_.num_classes(),
          config.model, source_.loss.num_classes);
    if (config.distill.wanted()) teacher_.emplace(source_.graph, features_, device_);
    if (!features_.empty()) match_channels();
    if (config.solver.ema_decay > 0)
      ema_.emplace(named_state(), config.solver.ema_decay, config.solver.ema_tau);
    resolved_ = config.json();
    resolved_["loss"] = loss_.config().json();
  }

  QatResult run(int64_t stop_after) {
    if (resuming_) {
      state_ = load_run(state_file(), resolved_, student_, ema(), *optimizer_);
      student_.read_ranges();
    }
    write_atomically(out_ / "config.json", json_text(resolved_, 2) + "\n");
    fmt::print("{}; {} iterations per epoch{}\n", describe_data(train_set_, val_set_),
               loader_.batches_per_epoch(),
               state_.epoch > 0 ? fmt::format("; going on with epoch {}", state_.epoch + 1) : "");
    if (!resuming_) evaluate_start();
    if (finished()) fmt::print("the run is complete\n");
    for (int64_t trained = 0; !finished(); ++trained) {
      if (stop_after > 0 && trained == stop_after) return result();
      one_epoch();
    }
    finish();
    return result();
  }

 private:
  fs::path state_file() const { return out_ / "resume.safetensors"; }
  fs::path start_file() const { return out_ / "start.safetensors"; }
  bool finished() const {
    return state_.epoch >= config_.epochs || (config_.patience > 0 && state_.best_epoch >= 0 &&
                                              state_.epoch - state_.best_epoch >= config_.patience);
  }
  optim::ModelEma* ema() { return ema_ ? &*ema_ : nullptr; }

  // A resumed run takes structure and ranges from its own file, weights from its state.
  deploy::Graph load_start(const deploy::Graph* given) const {
    if (resuming_) return deploy::load_deploy(start_file());
    deploy::Graph start = make_start(config_, source_.graph, given);
    start.image_size = config_.image_size;
    fs::create_directories(out_);
    deploy::save_deploy(start_file(), start);
    return start;
  }
  std::vector<int> find_features() const {
    if (config_.distill.cwd_weight == 0) return {};
    if (config_.distill.features.empty()) return quant::neck_outputs(start_);
    std::vector<int> found;
    for (const auto& name : config_.distill.features) {
      found.push_back(start_.find_tensor(name));
      check(found.back() >= 0, "qat: 'distill.features' names '{}', which is no tensor", name);
    }
    return found;
  }
  // Features of an equalized student are compared in the teacher's sizes. Of the file that a
  // resumed run has too: its weights are rounded.
  void match_channels() {
    const deploy::Graph start = deploy::load_deploy(start_file());
    const Tensor image = spread_batch(train_set_, 1, static_cast<int>(config_.image_size),
                                      source_.graph.gray_border);
    for (const Tensor& f : channel_factors(source_.graph, start, features_, image)) {
      BatchNormState norm;
      if (f.defined()) {
        norm.gamma = Variable(f.to(device_));
        norm.beta = Variable(Tensor::zeros(f.shape()).to(device_));
        norm.running_mean = Tensor::zeros(f.shape()).to(device_);
        norm.running_var = Tensor::full(f.shape(), 1.0f).to(device_);
      }
      channels_.push_back(norm);
    }
  }
  Variable in_teachers_size(const Variable& feature, size_t f) const {
    const BatchNormState& norm = channels_[f];
    if (!norm.gamma.defined()) return feature;
    return batch_norm(feature, norm, {.eps = 0.0f, .training = false});
  }
  LossConfig loss_config() const {
    LossConfig c = read_loss_config(ConfigReader(config_.loss, "loss", "loss."), source_.loss);
    check_objectness(c, source_.decode().objectness, "qat");
    c.max_epoch = config_.epochs;
    return c;
  }
  optim::NamedTensors named_state() const {
    optim::NamedTensors out;
    for (const auto& s : student_.state()) out.emplace_back(s.name, s.tensor);
    return out;
  }

  // One forward and backward pass; the gradients add up in the parameters. Returns what makes the
  // items, which waits for the device.
  std::function<LossItems()> iterate(const data::Batch& batch) {
    const auto out = student_.forward(batch.images);
    LossInput input;
    input.cls_logits = out.cls_logits;
    input.reg = out.reg;
    input.objectness = out.objectness;
    const int64_t side = config_.image_size;
    const LossResult r = loss_(input, batch.targets, {side, side, state_.epoch});
    Variable total = scale(r.loss, static_cast<float>(config_.loss_weight));
    LossParts parts;
    const auto add_part = [&](double LossItems::*item, const Variable& part, double weight) {
      const Variable weighted = scale(part, static_cast<float>(weight));
      total = add(total, weighted);
      parts.add(item, weighted);
    };
    if (teacher_) {
      const DistillConfig& d = config_.distill;
      const auto taught = teacher_->run(batch.images);
      for (size_t f = 0; f < out.features.size(); ++f)
        add_part(&LossItems::cwd,
                 channel_wise_distillation(in_teachers_size(out.features[f], f), taught.features[f],
                                           d.cwd_temperature),
                 d.cwd_weight);
      if (d.logits_weight > 0)
        add_part(&LossItems::cls,
                 score_distillation(out.cls_logits, taught.cls_logits, d.logits_temperature),
                 d.logits_weight);
      if (d.logits_weight > 0 && !out.objectness.empty())
        add_part(&LossItems::objectness,
                 score_distillation(out.objectness, taught.objectness, d.logits_temperature),
                 d.logits_weight);
    }
    const auto items = [values = r.values, weight = config_.loss_weight,
                        more = parts.fetch(transfers_), epoch = state_.epoch] {
      LossItems all = values.items();
      for (double* item : {&all.iou, &all.dfl, &all.cls, &all.objectness}) *item *= weight;
      more(all);
      check(std::isfinite(all.total()),
            "qat: the loss is not finite in epoch {}; a lower solver.lr0 may help", epoch + 1);
      return all;
    };
    if (device_ == Device::kCpu) items();  // nothing to wait for: what is not finite ends here
    backward(total);
    return items;
  }

  void one_epoch() {
    optimizer_->zero_grad();
    EpochRow row = run_epoch({config_, state_.epoch, loader_, train_set_.names, out_},
                             [&](const data::Batch& batch, int64_t iteration) {
                               const optim::StepValues v = schedule_.at(iteration);
                               const auto items = iterate(batch);
                               if (v.step) {
                                 optimizer_->step(v.lr, v.momentum);
                                 optimizer_->zero_grad();
                                 student_.update_scales();
                                 if (ema_) ema_->update();
                               }
                               return Iteration{items, v.lr[1]};
                             });
    ++state_.epoch;
    const bool evaluated =
        state_.epoch % config_.eval_interval == 0 || state_.epoch == config_.epochs;
    seconds_ += row.seconds;
    ++timed_;
    {
      std::optional<optim::EmaScope> average;
      if (ema_) average.emplace(*ema_);
      const deploy::Graph graph = student_.graph();
      if (evaluated) measure(graph, row);
      deploy::save_deploy(out_ / "last.safetensors", graph);
    }
    record(row);
    save_run(state_file(), resolved_, state_, student_, ema(), *optimizer_);
  }

  void evaluate_start() {
    EpochRow row;
    measure(start_, row);
    record(row);
  }

  // mAP of the int8 engine; the best graph is kept.
  void measure(const deploy::Graph& graph, EpochRow& row) {
    const deploy::EvalResult r =
        deploy::evaluate(graph, val_set_, config_.image_size, deploy::Precision::kInt8,
                         {.conf = config_.eval_conf, .iou = config_.eval_iou, .device = device_});
    row.map50 = std::max(0.0, r.metrics.ap50);
    row.map50_95 = std::max(0.0, r.metrics.ap);
    if (row.map50_95 <= state_.best_map50_95) return;
    state_.best_map50 = row.map50;
    state_.best_map50_95 = row.map50_95;
    state_.best_epoch = state_.epoch;
    deploy::save_deploy(out_ / "best.safetensors", graph);
  }

  void record(const EpochRow& row) {
    state_.rows.push_back(row);
    write_results(out_ / "results.csv", state_.rows);
    write_curves(out_, state_.rows);
    print_epoch(row, config_.epochs);
  }

  void finish() {
    const QatResult r = result();
    fmt::print("int8 mAP50-95 {:.4f} at the start, {:.4f} at best (epoch {}): {}\n",
               r.start_map50_95, r.best_map50_95, r.best_epoch, r.file);
  }

  QatResult result() const {
    QatResult r;
    r.file = (out_ / "best.safetensors").string();
    r.best_map50 = state_.best_map50;
    r.best_map50_95 = state_.best_map50_95;
    r.best_epoch = state_.best_epoch;
    for (const EpochRow& row : state_.rows) {
      if (row.map50_95 < 0) continue;
      (row.epoch == 0 ? r.start_map50 : r.last_map50) = row.map50;
      (row.epoch == 0 ? r.start_map50_95 : r.last_map50_95) = row.map50_95;
    }
    r.seconds_per_epoch = timed_ > 0 ? seconds_ / static_cast<double>(timed_) : 0;
    r.complete = finished();
    return r;
  }

  const QatConfig& config_;
  const fs::path out_;
  const bool resuming_;
  const SourceModel source_;
  const data::Dataset train_set_, val_set_;
  const Device device_;
  const deploy::Graph start_;
  const std::vector<int> features_;
  quant::TrainableGraph student_;
  std::optional<quant::DistillationTeacher> teacher_;
  std::vector<BatchNormState> channels_;  // of the features; undefined where nothing is to be done
  DetectionLoss loss_;
  loss_detail::AsyncTransfers transfers_;  // of the parts beside it
  std::optional<optim::ModelEma> ema_;
  std::unique_ptr<optim::Optimizer> optimizer_;
  data::Loader loader_;
  const optim::Schedule schedule_;
  Json resolved_;
  RunState state_;
  double seconds_ = 0;
  int64_t timed_ = 0;
};

}  // namespace

QatResult train_qat(const QatConfig& config, const fs::path& out, bool resume, int64_t stop_after,
                    const deploy::Graph* start) {
  check(resume || !fs::exists(out / "config.json"),
        "{}: already holds a run; go on with it (--resume) or choose another folder (--out)",
        out.string());
  QatRun run(config, out, resume, start);
  return run.run(stop_after);
}

}  // namespace sextant::apps
