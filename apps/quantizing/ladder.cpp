// SPDX-License-Identifier: Apache-2.0
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
#include "core/folder_lock.h"
#include "core/median.h"
#include "core/outputs.h"
#include "core/parallel.h"
#include "data/dataset/dataset.h"
#include "deploy/detect/choices.h"
#include "deploy/detect/evaluation.h"
#include "deploy/engine/selftest.h"
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

const char* title_of(RungKind kind) {
  switch (kind) {
    case RungKind::kFp32:
      return "fp32";
    case RungKind::kNaive:
      return "naive PTQ";
    case RungKind::kPtq:
      return "PTQ";
    case RungKind::kPtqPlus:
      return "PTQ, learned rounding";
    case RungKind::kPartial:
      return "partial";
    case RungKind::kQat:
      return "QAT";
    case RungKind::kQatCwd:
      return "QAT + distillation";
  }
  return "";
}

deploy::Precision precision_of(RungKind kind) {
  return kind == RungKind::kFp32 ? deploy::Precision::kFloat32 : deploy::Precision::kInt8;
}

class Climber {
 public:
  Climber(const LadderConfig& config, fs::path out, bool resume)
      : config_(config),
        out_(std::move(out)),
        lock_(out_),
        resume_(resume),
        model_(load_model_graph(config.model)),
        size_(
            deploy::choose_image_size(config.image_size, model_, config.where + ": 'image_size'")),
        bench_size_(deploy::choose_image_size(config.bench_image_size, model_,
                                              config.where + ": 'bench.image_size'")),
        device_(deploy::choose_device(config.device)),
        train_set_(deploy::open_dataset_for(model_, config.data.path, config.data.train,
                                            {config.data.on_error})),
        val_set_(deploy::open_dataset_for(model_, config.data.path, config.data.val,
                                          {config.data.on_error})) {
    data::check_has_boxes(val_set_);
    check(!model_.quantized(), "{}: is already quantized; the ladder starts from a float model",
          config.model);
  }

  Ladder run() {
    claim_folder();
    for (const RungKind kind : config_.rungs) rungs_.push_back(rung(kind));
    time_rungs();
    Ladder ladder{config_.model,       config_.data.path, size_, bench_size_,
                  config_.bench_batch, num_threads(),     rungs_};
    write_atomically(out_ / "ladder.txt", ladder_text(ladder));
    write_atomically(out_ / "ladder.json", json_text(ladder_json(ladder), 2) + "\n");
    write_atomically(out_ / "ladder.html", ladder_html(ladder));
    return ladder;
  }

 private:
  fs::path file_of(RungKind kind) const {
    return out_ / fmt::format("{}.safetensors", name_of(kind));
  }
  fs::path record_of(RungKind kind) const { return out_ / fmt::format("{}.json", name_of(kind)); }

  void claim_folder() const {
    Files files{.inputs = {config_.model}, .datasets = {}, .outputs = {}};
    for (const RungKind kind : config_.rungs) files.outputs.push_back(file_of(kind).string());
    check_outputs(files);
    const fs::path file = out_ / "config.json";
    const Json wanted = config_.json();
    if (file_exists(file)) {
      check(resume_, "{}: already holds a ladder; give --resume, or choose another folder",
            out_.string());
      Json there = with_absolute_paths(load_json(file.string()));
      if (there.is_object()) check_rungs(there.value("rungs", Json()));
      Json now = wanted;
      for (Json* json : {&there, &now})
        for (const char* key : {"device", "rungs"}) json->erase(key);  // may differ
      if (const auto key = first_difference(there, now))
        fail("{}: holds a ladder with a different '{}'; choose another folder", out_.string(),
             *key);
    }
    write_atomically(file, json_text(wanted, 2) + "\n");
  }

  // Rungs may be added to an existing ladder, unless that changes the model that others started
  // from.
  void check_rungs(const Json& there) const {
    std::vector<std::string> names;
    check(read_value(there, names), "{}: the ladder there has no 'rungs'", out_.string());
    bool plus = false, from_start = false;
    for (const std::string& name : names) {
      const auto kind = from_name<RungKind>(name);
      check(std::ranges::count(config_.rungs, kind) > 0,
            "{}: the ladder there has the rung '{}', which the config lacks", out_.string(), name);
      plus |= kind == RungKind::kPtqPlus;
      from_start |=
          kind == RungKind::kPartial || kind == RungKind::kQat || kind == RungKind::kQatCwd;
    }
    check(
        plus || !has_plus() || !from_start,
        "{}: the ladder there started its last rungs from 'ptq', with 'ptq_plus' they would start "
        "from that; choose another folder",
        out_.string());
  }

  // Makes, evaluates and verifies a rung, or reads it from an earlier call. Speeds are measured
  // later.
  Rung rung(RungKind kind) {
    if (resume_ && file_exists(record_of(kind)) && file_exists(file_of(kind))) {
      fmt::print("{}: already done\n", title_of(kind));
      return rung_from_json(load_json(record_of(kind).string()), record_of(kind).string());
    }
    fmt::print("{}\n", title_of(kind));
    std::fflush(stdout);
    const auto start = Clock::now();
    const Graph graph = make(kind);
    Rung r;
    r.name = name_of(kind);
    r.title = title_of(kind);
    r.seconds = seconds_since(start);
    deploy::save_with_proof(file_of(kind), graph);
    r.file = file_of(kind).filename().string();
    r.bytes = static_cast<int64_t>(fs::file_size(file_of(kind)));
    const deploy::EvalResult e =
        deploy::evaluate(graph, val_set_, size_, precision_of(kind), {.device = device_});
    r.map50 = std::max(0.0, e.metrics.ap50);
    r.map50_95 = std::max(0.0, e.metrics.ap);
    count_layers(graph, kind, r);
    if (kind != RungKind::kFp32) {
      const Verification v =
          verify(graph, val_set_, config_.verify_images, size_, deploy::Precision::kInt8);
      r.max_steps = v.max_steps;
      r.differing = v.differing;
      r.values = v.values;
    }
    fmt::print("  mAP50 {:.4f}, mAP50-95 {:.4f}; {} of {} layers in float; {:.0f} s\n", r.map50,
               r.map50_95, r.float_layers, r.layers, r.seconds);
    std::fflush(stdout);
    write_atomically(record_of(kind), json_text(rung_json(r), 2) + "\n");
    return r;
  }

  Graph make(RungKind kind) {
    switch (kind) {
      case RungKind::kFp32:
        return model_;
      case RungKind::kNaive: {
        quant::PtqConfig c;
        c.images = config_.ptq.images;
        c.naive = true;
        return quantized(c);
      }
      case RungKind::kPtq:
        return has_plus() ? quantized(config_.ptq) : start();
      case RungKind::kPtqPlus:
        return start();
      case RungKind::kPartial:
        return partial();
      case RungKind::kQat:
      case RungKind::kQatCwd:
        return qat(kind);
    }
    fail("ladder: rung {}", static_cast<int>(kind));
  }

  Graph quantized(quant::PtqConfig config, quant::PtqReport* report = nullptr) const {
    config.device = device_;
    return quant::quantize(model_, spread_images(train_set_, config.images, size_, model_), config,
                           report);
  }
  bool has_plus() const { return std::ranges::count(config_.rungs, RungKind::kPtqPlus) > 0; }
  // The start of partial quantization and training: the best graph without them. Not read back from
  // the rung's file, which holds rounded weights.
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
        quant::rank_layers(graph, spread_batch(train_set_, 16, size_, graph), by_noise);
    quant::PartialConfig config;
    config.max_drop = config_.max_drop / 100;
    config.exact = &exact_;
    return quant::choose_float_layers(graph, sensitivity,
                                      partial_measures(graph, val_set_, size_, config_.bench_runs),
                                      config)
        .graph;
  }

  Graph qat(RungKind kind) {
    QatConfig config = config_.qat_config(kind);
    config.image_size = size_;
    const fs::path folder = out_ / fmt::format("{}_run", name_of(kind));
    return deploy::load_deploy(train_qat(config, folder, resume_, 0, &start()).best_file);
  }

  static void count_layers(const Graph& graph, RungKind kind, Rung& r) {
    const bool all_float = kind == RungKind::kFp32;
    for (const auto& node : graph.nodes) r.layers += node.has_weight();
    for (const auto& node : graph.nodes)
      r.float_layers += node.has_weight() && (all_float || !deploy::runs_in_int8(graph, node));
    r.requantizations = deploy::count_requantizations(graph);
  }

  // Interleaves the runs of all rungs, so that a change in the machine's speed affects them alike.
  void time_rungs() {
    std::vector<deploy::Engine> engines;
    for (const RungKind kind : config_.rungs)
      engines.emplace_back(
          deploy::load_deploy(file_of(kind)),
          deploy::EngineConfig{config_.bench_batch, bench_size_, bench_size_, precision_of(kind)});
    const Tensor images(Shape{config_.bench_batch, bench_size_, bench_size_, 3}, DType::kU8);
    std::fill_n(images.data<uint8_t>(), images.numel(), data::kPadValue);
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
  const FolderLock lock_;
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
