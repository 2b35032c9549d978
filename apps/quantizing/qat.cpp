// SPDX-License-Identifier: Apache-2.0
#include "apps/quantizing/qat.h"

#include <fmt/format.h>

#include <optional>

#include "apps/quantizing/calibrate.h"
#include "apps/quantizing/distillation.h"
#include "apps/quantizing/qat_source.h"
#include "apps/training/train_epoch.h"
#include "deploy/detect/evaluation.h"
#include "deploy/engine/selftest.h"
#include "deploy/graph/file.h"

namespace sextant::apps {
namespace {

namespace fs = std::filesystem;

std::vector<int> find_features(const QatConfig& config, const deploy::Graph& graph) {
  if (config.distill.cwd_weight == 0) return {};
  if (config.distill.features.empty()) return quant::neck_outputs(graph);
  std::vector<int> found;
  for (const auto& name : config.distill.features) {
    found.push_back(graph.find_tensor(name));
    check(found.back() >= 0, "{}: 'distill.features' names '{}', which is not a tensor",
          config.where, name);
  }
  return found;
}

class QatTask final : public TrainingTask {
 public:
  QatTask(const QatConfig& config, const SourceModel& source, const RunData& data,
          const RunFolder& folder, const deploy::Graph* given)
      : config_(config),
        source_(source),
        device_(deploy::choose_device(config.device)),
        start_file_(folder.path() / "start.safetensors"),
        loss_(loss_config()) {
    check(data.train.num_classes() == source.loss.num_classes,
          "{}: has {} classes, the model {} has {}", data.train.path, data.train.num_classes(),
          config.model, source.loss.num_classes);
    if (!folder.resuming())
      from_first([&] {
        write_start(given);
        return true;
      });
    if (!folder.resuming() && !start_) start_ = deploy::load_deploy(start_file_);  // process 0's
    // A resumed run reads structure and ranges from its own file and weights from its state.
    const deploy::Graph start = start_ ? *start_ : deploy::load_deploy(start_file_);
    const std::vector<int> features = find_features(config, start);
    student_.emplace(start, quant::TrainableOptions{.learn_activation_ranges = config.learn_scales,
                                                    .weights = config.weight_ranges,
                                                    .features = features,
                                                    .device = device_});
    if (config.distill.wanted()) distil(features, data);
  }

  TaskTraits traits() const override {
    return {.device = device_,
            .gray_border = source_.graph.gray_border,
            .precision = deploy::Precision::kInt8,
            .rate_by_iteration = true,  // steps per epoch are too coarse for a few epochs
            .has_start = true,
            .changes_after_step = true};
  }
  const Module& module() const override { return *student_; }
  // Weights decay; biases, ranges and scales do not.
  std::vector<optim::NamedParameter> parameters() const override {
    using optim::ParameterKind;
    std::vector<optim::NamedParameter> out;
    for (const auto& p : student_->parameters()) {
      const bool decayed = p.name.ends_with(".weight");
      out.push_back(
          {p.name, p.variable, decayed ? ParameterKind::kWeight : ParameterKind::kBias, {}});
    }
    return out;
  }

  Json resolved_config() const override {
    Json json = config_.json();
    json["loss"] = loss_.config().json();
    return json;
  }

  void restored() override { student_->read_ranges(); }
  void begin_epoch(int64_t epoch) override {
    epoch_ = epoch;
    start_.reset();
  }

  std::function<LossItems()> iterate(const data::Batch& batch, int64_t) override {
    const auto out = student_->forward(batch.images);
    LossInput input;
    input.cls_logits = out.cls_logits;
    input.reg = out.reg;
    input.objectness = out.objectness;
    const int64_t height = config_.image_size, width = config_.width();
    std::optional<WithoutImages> without;
    if (!batch.counts) without.emplace(*processes());
    Communicator* const across = without ? &*without : processes();
    const LossResult r = loss_(input, batch.targets, {height, width, epoch_, across, batch.whole});
    Variable total = scale(r.loss, static_cast<float>(config_.loss_weight));
    LossParts parts;
    if (distillation_) distillation_->add_parts(batch.images, out, batch.share(), parts);
    for (const LossParts::Part& part : parts.parts()) total = add(total, part.value);
    if (!batch.counts) total = scale(total, 0.0f);
    const auto items = [values = r.values, weight = config_.loss_weight,
                        more = parts.fetch(transfers_)] {
      LossItems all = values.items();
      for (double* item : {&all.iou, &all.dfl, &all.cls, &all.objectness}) *item *= weight;
      more(all);
      return all;
    };
    // The loss is already on the host, so a non-finite value is detected here.
    if (device_ == Device::kCpu) check_finite(items(), epoch_);
    backward(total);
    return items;
  }
  void stepped() override { student_->update_scales(); }

  deploy::Graph graph() override { return start_ ? *start_ : student_->graph(); }
  void save(const fs::path& path, const EpochRow&) override {
    deploy::save_with_proof(path, graph());
  }
  void finish(const RunFolder&, const RunResult& r) override {
    fmt::print("int8 mAP50-95 {:.4f} at the start, {:.4f} at best (epoch {}): {}\n",
               r.start_map50_95, r.best_map50_95, r.best_epoch, r.best_file.string());
  }

 private:
  LossConfig loss_config() const {
    LossConfig c =
        read_loss_config(ConfigReader(config_.loss, config_.where, "loss."), source_.loss);
    c.max_epoch = config_.epochs;
    c.name_classes(source_.graph.class_names, config_.where);
    return c;
  }

  void write_start(const deploy::Graph* given) {
    start_ = make_start(config_, source_.graph, given);
    start_->image_size = config_.image_size;
    start_->image_width = config_.image_width;
    fs::create_directories(start_file_.parent_path());
    deploy::save_deploy(start_file_, *start_);
  }

  // Channel scales are measured against the file, also in a resumed run: its weights are rounded.
  void distil(const std::vector<int>& features, const RunData& data) {
    const Tensor image = spread_batch(data.train, 1, config_.image_size, source_.graph);
    distillation_.emplace(config_.distill, source_.graph, deploy::load_deploy(start_file_),
                          features, image, device_);
  }

  const QatConfig& config_;
  const SourceModel& source_;
  const Device device_;
  const fs::path start_file_;
  const DetectionLoss loss_;
  // The graph as created until training starts: afterwards the scales follow the weights.
  std::optional<deploy::Graph> start_;
  std::optional<quant::TrainableGraph> student_;
  std::optional<Distillation> distillation_;
  loss_detail::AsyncTransfers transfers_;  // for the parts besides the detection loss
  int64_t epoch_ = 0;
};

}  // namespace

RunResult train_qat(const QatConfig& given, const fs::path& out, bool resume, int64_t stop_after,
                    const deploy::Graph* start) {
  check_outputs(
      {.inputs = {}, .datasets = {given.data.path}, .outputs = {}, .folders = {out.string()}});
  const RunFolder folder(out, resume);
  folder.check_inputs({given.model, given.start});
  const SourceModel source = load_source_model(given.model);
  QatConfig config = given;
  config.resolve(source);
  const RunData data(config.data, deploy::classes_of(source.graph));
  QatTask task(config, source, data, folder, start);
  return Run(config, folder, data, task).train(stop_after);
}

}  // namespace sextant::apps
