#include "apps/quantizing/ladder.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>

#include "apps/model_files/checkpoint.h"
#include "apps/quantizing/calibrate.h"
#include "apps/quantizing/partial_measures.h"
#include "apps/quantizing/qat.h"
#include "apps/quantizing/verify.h"
#include "core/file.h"
#include "core/median.h"
#include "core/parallel.h"
#include "data/dataset/dataset.h"
#include "deploy/detect/choices.h"
#include "deploy/detect/evaluation.h"
#include "deploy/graph/file.h"
#include "deploy/graph/ranges.h"
#include "quant/layers/float_layers.h"
#include "quant/layers/partial.h"
#include "quant/ptq/layer_samples.h"

namespace sextant::apps {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using deploy::Graph;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

const char* title_of(const std::string& rung) {
  if (rung == "fp32") return "fp32";
  if (rung == "naive") return "naive PTQ";
  if (rung == "ptq") return "PTQ";
  if (rung == "ptq_plus") return "PTQ, learned rounding";
  if (rung == "partial") return "partial";
  if (rung == "qat") return "QAT";
  return "QAT + distillation";
}

deploy::Precision precision_of(const std::string& rung) {
  return rung == "fp32" ? deploy::Precision::kFloat32 : deploy::Precision::kInt8;
}

class Climber {
 public:
  Climber(const LadderConfig& config, fs::path out, bool resume)
      : config_(config),
        out_(std::move(out)),
        resume_(resume),
        model_(load_model_graph(config.model)),
        size_(deploy::choose_image_size(config.image_size, model_, "--img")),
        bench_size_(deploy::choose_image_size(config.bench_image_size, model_, "--img")),
        device_(deploy::choose_device(config.device)),
        train_set_(deploy::open_dataset_for(model_, config.data.path, config.data.train,
                                            {config.data.on_error})),
        val_set_(deploy::open_dataset_for(model_, config.data.path, config.data.val,
                                          {config.data.on_error})) {
    data::check_has_boxes(val_set_);
    check(!model_.quantized(), "{}: is quantized already; the ladder starts from a float model",
          config.model);
  }

  Ladder run() {
    claim_folder();
    for (const auto& name : config_.rungs) rungs_.push_back(rung(name));
    time_rungs();
    Ladder ladder{config_.model,       config_.data.path, size_, bench_size_,
                  config_.bench_batch, num_threads(),     rungs_};
    write_atomically(out_ / "ladder.txt", ladder_text(ladder));
    write_atomically(out_ / "ladder.json", json_text(ladder_json(ladder), 2) + "\n");
    write_atomically(out_ / "ladder.html", ladder_html(ladder));
    return ladder;
  }

 private:
  fs::path file_of(const std::string& rung) const { return out_ / (rung + ".safetensors"); }
  fs::path record_of(const std::string& rung) const { return out_ / (rung + ".json"); }

  void claim_folder() const {
    const fs::path file = out_ / "config.json";
    Json wanted = config_.json();
    if (fs::exists(file)) {
      check(resume_, "{}: holds a ladder; go on with it by --resume, or choose another folder",
            out_.string());
      Json there = load_json(file.string());
      for (Json* json : {&there, &wanted}) json->erase("device");  // does not decide
      if (const auto key = first_difference(there, wanted))
        fail("{}: the ladder there has another '{}'", out_.string(), *key);
      return;
    }
    fs::create_directories(out_);
    write_atomically(file, json_text(wanted, 2) + "\n");
  }

  // Made, evaluated and verified, or as an earlier call left it. Speeds come later.
  Rung rung(const std::string& name) {
    if (resume_ && fs::exists(record_of(name)) && fs::exists(file_of(name))) {
      fmt::print("{}: there already\n", title_of(name));
      return rung_from_json(load_json(record_of(name).string()), record_of(name).string());
    }
    fmt::print("{}\n", title_of(name));
    std::fflush(stdout);
    const auto start = Clock::now();
    const Graph graph = make(name);
    Rung r;
    r.name = name;
    r.title = title_of(name);
    r.seconds = seconds_since(start);
    deploy::save_deploy(file_of(name), graph);
    r.file = file_of(name).filename().string();
    r.bytes = static_cast<int64_t>(fs::file_size(file_of(name)));
    const deploy::EvalResult e =
        deploy::evaluate(graph, val_set_, size_, precision_of(name), {.device = device_});
    r.map50 = std::max(0.0, e.metrics.ap50);
    r.map50_95 = std::max(0.0, e.metrics.ap);
    count_layers(graph, r);
    if (name != "fp32") {
      const Verification v =
          verify(graph, val_set_, config_.verify_images, size_, deploy::Precision::kInt8);
      r.max_steps = v.max_steps;
      r.differing = v.differing;
      r.values = v.values;
    }
    fmt::print("  mAP50 {:.4f}, mAP50-95 {:.4f}; {} of {} layers in float; {:.0f} s\n", r.map50,
               r.map50_95, r.float_layers, r.layers, r.seconds);
    std::fflush(stdout);
    write_atomically(record_of(name), json_text(rung_json(r), 2) + "\n");
    return r;
  }

  Graph make(const std::string& name) {
    if (name == "fp32") return model_;
    if (name == "naive") {
      quant::PtqConfig c;
      c.images = config_.ptq.images;
      c.naive = true;
      return quantized(c);
    }
    if (name == "ptq") return has_plus() ? quantized(config_.ptq) : start();
    if (name == "ptq_plus") return start();
    if (name == "partial") return partial();
    return qat(name);
  }

  Graph quantized(quant::PtqConfig config, quant::PtqReport* report = nullptr) const {
    config.device = device_;
    return quant::quantize(model_,
                           spread_images(train_set_, config.images, size_, model_.gray_border),
                           config, report);
  }
  bool has_plus() const { return std::ranges::count(config_.rungs, "ptq_plus") > 0; }
  // What partial quantization and training begin with: the best there is without them. Not read
  // back from the rung's file, which holds rounded weights.
  const Graph& start() {
    if (!start_) {
      quant::PtqReport report;
      start_ = quantized(has_plus() ? config_.ptq_plus : config_.ptq, &report);
      exact_ = std::move(report.exact);
    }
    return *start_;
  }

  Graph partial() {
    const Graph& graph = start();
    quant::SensitivityConfig by_noise;
    by_noise.exact = &exact_;
    const quant::Sensitivity sensitivity =
        quant::rank_layers(graph, spread_batch(train_set_, 16, size_, graph.gray_border), by_noise);
    quant::PartialConfig config;
    config.max_drop = config_.max_drop / 100;
    config.exact = &exact_;
    return quant::choose_float_layers(graph, sensitivity,
                                      partial_measures(graph, val_set_, size_, config_.bench_runs),
                                      config)
        .graph;
  }

  Graph qat(const std::string& name) {
    Json json = config_.qat;
    json["model"] = fs::absolute(config_.model).string();
    json["data"] = {{"path", fs::absolute(config_.data.path).string()},
                    {"train", config_.data.train},
                    {"val", config_.data.val},
                    {"on_error", config_.data.on_error}};
    json["image_size"] = size_;
    if (!json.contains("device")) json["device"] = config_.device;
    if (name == "qat") {  // by the labels alone
      json["distill"] = {{"cwd_weight", 0}, {"logits_weight", 0}};
      json["loss_weight"] = 1.0;
    }
    const QatResult r = train_qat(parse_qat_config(json, "ladder: qat", ""), out_ / (name + "_run"),
                                  resume_, 0, &start());
    return deploy::load_deploy(r.file);
  }

  static void count_layers(const Graph& graph, Rung& r) {
    for (const auto& node : graph.nodes) r.layers += node.has_weight();
    for (const auto& node : graph.nodes)
      r.float_layers +=
          node.has_weight() && (r.name == "fp32" || !deploy::runs_in_int8(graph, node));
    r.requantizations = deploy::count_requantizations(graph);
  }

  // All in turns, so that a change in the machine's speed meets them alike.
  void time_rungs() {
    std::vector<deploy::Engine> engines;
    for (const Rung& r : rungs_)
      engines.emplace_back(deploy::load_deploy(out_ / r.file),
                           deploy::EngineConfig{config_.bench_batch, bench_size_, bench_size_,
                                                precision_of(r.name)});
    const Tensor images(Shape{config_.bench_batch, bench_size_, bench_size_, 3}, DType::kU8);
    std::fill_n(images.data<uint8_t>(), images.numel(), uint8_t{114});
    std::vector<std::vector<double>> times(engines.size());
    for (int run = -2; run < config_.bench_runs; ++run)
      for (size_t e = 0; e < engines.size(); ++e) {
        const auto start = Clock::now();
        engines[e].run(images);
        const double ms = 1e3 * seconds_since(start) / static_cast<double>(config_.bench_batch);
        if (run >= 0) times[e].push_back(ms);
      }
    for (size_t e = 0; e < engines.size(); ++e) {
      rungs_[e].milliseconds = median(times[e]);
      rungs_[e].speedup = rungs_[0].milliseconds / rungs_[e].milliseconds;
    }
  }

  const LadderConfig& config_;
  const fs::path out_;
  const bool resume_;
  const Graph model_;
  const int size_, bench_size_;
  const Device device_;
  const data::Dataset train_set_, val_set_;
  std::optional<Graph> start_;
  Graph exact_;  // the float graph that start_ rounds
  std::vector<Rung> rungs_;
};

}  // namespace

Ladder climb(const LadderConfig& config, const std::filesystem::path& out, bool resume) {
  return Climber(config, out, resume).run();
}

}  // namespace sextant::apps
