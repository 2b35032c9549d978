#include "apps/run_folder.h"

#include <fmt/format.h>

#include "apps/train_config.h"
#include "core/file.h"
#include "data/plot.h"

namespace sextant::apps {

namespace {

// The config without what does not change the result.
Json decisive(Json config) {
  for (const char* key : {"workers", "device", "cache_mb"}) config.erase(key);
  return config;
}

std::string cell(double v) { return v < 0 ? "" : fmt::format("{:.5f}", v); }
}  // namespace

void write_results(const std::filesystem::path& path, const std::vector<EpochRow>& rows) {
  std::string text = "epoch,lr,loss,loss_iou,loss_dfl,loss_cls,map50,map50_95,seconds\n";
  for (const auto& r : rows)
    text += fmt::format("{},{:.8f},{:.6f},{:.6f},{:.6f},{:.6f},{},{},{:.2f}\n", r.epoch, r.lr,
                        r.loss_iou + r.loss_dfl + r.loss_cls, r.loss_iou, r.loss_dfl, r.loss_cls,
                        cell(r.map50), cell(r.map50_95), r.seconds);
  write_atomically(path, text);
}

Json rows_to_json(const std::vector<EpochRow>& rows) {
  Json out = Json::array();
  for (const auto& r : rows)
    out.push_back(
        {r.epoch, r.lr, r.loss_iou, r.loss_dfl, r.loss_cls, r.map50, r.map50_95, r.seconds});
  return out;
}

std::vector<EpochRow> rows_from_json(const Json& json) {
  std::vector<EpochRow> rows;
  for (const auto& j : json)
    rows.push_back({j.at(0), j.at(1), j.at(2), j.at(3), j.at(4), j.at(5), j.at(6), j.at(7)});
  return rows;
}

void write_curves(const std::filesystem::path& folder, const std::vector<EpochRow>& rows) {
  data::PlotSpec loss{
      "Training loss", "epoch", "loss", {{"total", {}, {}}, {"box", {}, {}}, {"class", {}, {}}}};
  data::PlotSpec map{"Validation", "epoch", "mAP", {{"mAP50", {}, {}}, {"mAP50-95", {}, {}}}};
  for (const auto& r : rows) {
    const auto e = static_cast<double>(r.epoch);
    const double values[] = {r.loss_iou + r.loss_dfl + r.loss_cls, r.loss_iou, r.loss_cls};
    for (size_t i = 0; i < 3; ++i) {
      loss.series[i].x.push_back(e);
      loss.series[i].y.push_back(values[i]);
    }
    if (r.map50_95 < 0) continue;
    map.series[0].x.push_back(e);
    map.series[0].y.push_back(r.map50);
    map.series[1].x.push_back(e);
    map.series[1].y.push_back(r.map50_95);
  }
  map.y_min = 0.0;
  data::save_line_plot(folder / "loss.png", loss);
  if (!map.series[0].x.empty()) data::save_line_plot(folder / "map.png", map);
}

void save_run(const std::filesystem::path& path, const Json& config, const RunState& state,
              const Yolov6& model, const optim::ModelEma& ema, const optim::Optimizer& optimizer) {
  SafeTensors file;
  for (const auto& s : model.state()) file.add("model." + s.name, s.tensor);
  for (const auto& [name, t] : ema.state("ema.")) file.add(name, t);
  for (const auto& [name, t] : optimizer.state("optimizer.")) file.add(name, t);
  for (const auto& p : model.parameters())
    if (p.variable.grad().defined()) file.add("grad." + p.name, p.variable.grad());
  const Json meta = {{"format", "sextant-run"},
                     {"version", 1},
                     {"epoch", state.epoch},
                     {"best_map50", state.best_map50},
                     {"best_map50_95", state.best_map50_95},
                     {"best_epoch", state.best_epoch},
                     {"config", config},
                     {"rows", rows_to_json(state.rows)}};
  file.metadata["sextant"] = meta.dump();
  save_safetensors(path, file);
}

RunState load_run(const std::filesystem::path& path, const Json& config, Yolov6& model,
                  optim::ModelEma& ema, optim::Optimizer& optimizer) {
  const SafeTensors file = load_safetensors(path);
  const Json meta = Json::parse(file.meta("sextant"), nullptr, false);
  RunState state;
  try {
    check(meta.at("format") == "sextant-run" && meta.at("version") == 1,
          "is not the state of a training run");
    if (const auto key = first_difference(decisive(meta.at("config")), decisive(config)))
      fail("the run was started with another '{}'; resume with the same config", *key);
    state = {meta.at("epoch"), rows_from_json(meta.at("rows")), meta.at("best_map50"),
             meta.at("best_map50_95"), meta.at("best_epoch")};
  } catch (const std::exception& e) {
    fail("{}: {}", path.string(), e.what());
  }
  for (const auto& s : model.state()) optim::restore_tensor(file, "model." + s.name, s.tensor);
  ema.load_state(file, "ema.");
  optimizer.load_state(file, "optimizer.");
  for (const auto& p : model.parameters())
    if (const Tensor* g = file.find("grad." + p.name)) {
      check(g->shape() == p.variable.shape(), "{}: tensor 'grad.{}' has shape {}", file.path,
            p.name, g->shape().str());
      p.variable.meta()->grad = *g;
    }
  return state;
}

}  // namespace sextant::apps
