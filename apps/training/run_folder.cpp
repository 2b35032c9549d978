// SPDX-License-Identifier: Apache-2.0
#include "apps/training/run_folder.h"

#include <fmt/format.h>

#include "apps/training/train_config.h"
#include "core/communicator.h"
#include "core/file.h"
#include "core/outputs.h"
#include "data/drawing/draw.h"
#include "models/yolov6_config.h"

namespace sextant::apps {
namespace {

// The config without what does not change the result, and with all its keys (an older run may have
// been written with fewer).
Json decisive(Json config, const std::string& where) {
  for (const char* key : {"workers", "device", "cache_mb", "patience", "bucket_mb", "save_period"})
    config.erase(key);
  if (config["data"].is_object()) {
    if (!config["data"].contains("fraction")) config["data"]["fraction"] = DataConfig{}.fraction;
    if (!config["data"].contains("single_cls"))
      config["data"]["single_cls"] = DataConfig{}.single_cls;
  }
  if (!config.contains("precision"))
    config["precision"] = std::string(name_of(TrainConfig{}.precision));
  if (!config.contains("sync_bn")) config["sync_bn"] = TrainConfig{}.sync_bn;
  if (config["solver"].is_object() && !config["solver"].contains("optimizer"))
    config["solver"]["optimizer"] = std::string(name_of(SolverConfig{}.optimizer));
  if (config["loss"].is_object() && !config["loss"].contains("class_weights"))
    config["loss"]["class_weights"] = Json::object();
  if (config["model"].is_object())
    config["model"] =
        read_yolov6_config(ConfigReader(config["model"], where, "config.model."), 1).json();
  return with_absolute_paths(std::move(config));
}

int64_t epochs_of(const Json& config) {
  int64_t epochs = 0;
  if (config.contains("epochs")) read_value(config.at("epochs"), epochs);
  return epochs;
}

// Throws Error naming the key in which they differ. A run that has trained all its epochs may be
// given more.
void check_same_config(Json before, Json now, int64_t trained, const std::string& where) {
  if (trained >= epochs_of(before) && epochs_of(now) > epochs_of(before))
    for (Json* config : {&before, &now}) {
      config->erase("epochs");
      if (config->contains("training")) config->at("training").erase("search");  // is over
    }
  if (const auto key = first_difference(before, now))
    fail("{}: the run was started with another '{}'; resume with the same config", where, *key);
}

// The fields of a row of 'rows', in their order there. An older run's rows end earlier.
constexpr size_t kRowSizes[] = {9, 10};
std::vector<double*> fields_of(EpochRow& r) {
  return {&r.lr,       &r.loss_iou, &r.loss_dfl, &r.loss_cls,  &r.loss_cwd, &r.map50,
          &r.map50_95, &r.seconds,  &r.loss_obj, &r.precision, &r.recall,   &r.val_iou,
          &r.val_dfl,  &r.val_cls,  &r.val_obj,  &r.lr_bias,   &r.lr_norm};
}

}  // namespace

Json with_absolute_paths(Json config) {
  const auto absolute = [](Json& path) {
    if (path.is_string() && !path.get<std::string>().empty())
      path = std::filesystem::absolute(path.get<std::string>()).lexically_normal().string();
  };
  for (const char* key : {"init", "teacher", "model", "start"})
    if (config.contains(key)) absolute(config[key]);
  if (config.contains("data") && config["data"].is_object() && config["data"].contains("path"))
    absolute(config["data"]["path"]);
  return config;
}

void fail_run_exists(const std::filesystem::path& folder) {
  fail("{}: already holds a run; resume it, or choose another folder", folder.string());
}

RunFolder::RunFolder(std::filesystem::path path, bool resume) : path_(std::move(path)) {
  resuming_ = from_first([&] {
    lock_.emplace(path_);
    if (!resume && file_exists(config())) fail_run_exists(path_);
    return resume && file_exists(state());
  });
}

std::filesystem::path RunFolder::of_epoch(int64_t epoch) const {
  return path_ / fmt::format("epoch_{}.safetensors", epoch);
}

void RunFolder::check_inputs(const std::vector<std::string>& inputs) const {
  Files files;
  for (const std::string& input : inputs)
    if (!input.empty()) files.inputs.push_back(input);
  for (const char* name : {"last", "best", "resume", "model", "start"})
    files.outputs.push_back((path_ / (std::string(name) + ".safetensors")).string());
  check_outputs(files);
}

void EpochRow::take_validation(const std::optional<LossItems>& losses) {
  if (!losses || !std::isfinite(losses->total())) return;
  val_iou = losses->iou;
  val_dfl = losses->dfl;
  val_cls = losses->cls;
  val_obj = losses->objectness;
}

Json rows_to_json(const std::vector<EpochRow>& rows) {
  Json out = Json::array();
  for (EpochRow r : rows) {
    Json row = {r.epoch};
    for (const double* v : fields_of(r)) row.push_back(*v);
    row.push_back(r.images);
    out.push_back(std::move(row));
  }
  return out;
}

std::vector<EpochRow> rows_from_json(const Json& json, const std::string& where) {
  std::vector<std::vector<double>> numbers;
  check(read_value(json, numbers), "{}: 'rows' is not a list of lists of numbers", where);
  std::vector<EpochRow> rows;
  for (const auto& n : numbers) {
    EpochRow row;
    const auto fields = fields_of(row);
    check(std::ranges::find(kRowSizes, n.size()) != std::end(kRowSizes) ||
              n.size() == fields.size() + 2,
          "{}: a row of 'rows' has {} numbers", where, n.size());
    check(n[0] >= 0 && n[0] <= 1e6, "{}: 'rows' has epoch {}", where, n[0]);
    row.epoch = static_cast<int64_t>(n[0]);
    for (size_t i = 1; i < n.size() && i <= fields.size(); ++i) *fields[i - 1] = n[i];
    if (n.size() == fields.size() + 2 && n.back() >= 0 && n.back() <= 1e15)
      row.images = static_cast<int64_t>(n.back());
    rows.push_back(row);
  }
  return rows;
}

void write_batch_picture(const std::filesystem::path& path, const data::Batch& batch,
                         const std::vector<std::string>& names) {
  const int64_t side = batch.size() >= 9 ? 3 : (batch.size() >= 4 ? 2 : 1);
  const auto height = static_cast<int>(batch.images.dim(1));
  const auto width = static_cast<int>(batch.images.dim(2));
  const Tensor images = batch.images.to(Device::kCpu);
  data::Image sheet;
  sheet.width = width * static_cast<int>(side);
  sheet.height = height * static_cast<int>(side);
  sheet.pixels.resize(static_cast<size_t>(sheet.width) * static_cast<size_t>(sheet.height) * 3);
  std::vector<data::LabelledBox> boxes;
  const int64_t row = int64_t{width} * 3;
  for (int64_t k = 0; k < side * side; ++k)
    for (int64_t y = 0; y < height; ++y)
      std::copy_n(images.data<uint8_t>() + (k * height + y) * row, row,
                  sheet.pixels.data() + ((k / side * height + y) * side + k % side) * row);
  for (int64_t i = 0; i < batch.targets.dim(0); ++i) {
    const float* t = batch.targets.f32() + i * 6;
    const auto k = static_cast<int64_t>(t[0]);
    if (k >= side * side) continue;
    const double x = static_cast<double>(k % side) + t[2], y = static_cast<double>(k / side) + t[3];
    const auto c = static_cast<size_t>(t[1]);
    boxes.push_back({{(x - t[4] / 2.0) * width, (y - t[5] / 2.0) * height, (x + t[4] / 2.0) * width,
                      (y + t[5] / 2.0) * height},
                     static_cast<int>(c),
                     c < names.size() ? names[c] : std::to_string(c)});
  }
  data::draw_detections(sheet, boxes);
  data::save_png(path, sheet);
}

void save_run(const std::filesystem::path& path, const Json& config, const RunState& state,
              const Module& model, const optim::ModelEma* ema, const optim::Optimizer& optimizer,
              const optim::GradScaler* scaler) {
  SafeTensors file;
  for (const auto& s : model.state()) file.add("model." + s.name, s.tensor);
  if (ema != nullptr)
    for (const auto& [name, t] : ema->state("ema.")) file.add(name, t);
  for (const auto& [name, t] : optimizer.state("optimizer.")) file.add(name, t);
  if (scaler != nullptr)
    for (const auto& [name, t] : scaler->state("scaler.")) file.add(name, t);
  file.metadata["sextant"] = json_text(run_state_to_json(state, config));
  save_safetensors(path, file);
}

Json run_state_to_json(const RunState& state, const Json& config) {
  return {{"format", "sextant-run"},
          {"version", 1},
          {"epoch", state.epoch},
          {"best_map50", state.best_map50},
          {"best_map50_95", state.best_map50_95},
          {"best_epoch", state.best_epoch},
          {"config", config},
          {"rows", rows_to_json(state.rows)}};
}

RunState run_state_from_json(const Json& meta, const Json& config, const std::string& where) {
  constexpr double kMostEpochs = 1e6;
  RunState state;
  ConfigReader r(meta, where);
  std::string format;
  int64_t version = 0;
  Json run_config, rows;
  r.require("format", format);
  r.require("version", version);
  check(format == "sextant-run" && version == 1, "{}: is not the state of a training run", where);
  r.require("config", run_config);
  check(run_config.is_object() && run_config.contains("solver") && run_config.contains("model"),
        "{}: 'config' is not that of a training run", where);
  r.number("epoch", state.epoch, 0, kMostEpochs);
  check_same_config(decisive(run_config, where), decisive(config, where), state.epoch, where);
  r.number("best_epoch", state.best_epoch, -1, kMostEpochs);
  r.number("best_map50", state.best_map50, -1, 1);
  r.number("best_map50_95", state.best_map50_95, -1, 1);
  r.require("rows", rows);
  r.finish();
  state.rows = rows_from_json(rows, where);
  return state;
}

RunState load_run(const std::filesystem::path& path, const Json& config, const Module& model,
                  optim::ModelEma* ema, optim::Optimizer& optimizer, optim::GradScaler* scaler) {
  const SafeTensors file = load_safetensors(path);
  const Json meta = parse_json(file.meta("sextant"), path.string() + ": 'sextant' in __metadata__");
  const RunState state = run_state_from_json(meta, config, path.string());
  for (const auto& s : model.state()) optim::restore_tensor(file, "model." + s.name, s.tensor);
  if (ema != nullptr) ema->load_state(file, "ema.");
  optimizer.load_state(file, "optimizer.");
  if (scaler != nullptr) scaler->load_state(file, "scaler.");
  return state;
}

}  // namespace sextant::apps
