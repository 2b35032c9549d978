// SPDX-License-Identifier: Apache-2.0
// Quantization-aware training on a handful of drawn shapes.
#include <cmath>
#include <map>

#include "apps/model_files/checkpoint.h"
#include "apps/quantizing/ladder.h"
#include "apps/quantizing/qat.h"
#include "apps/quantizing/qat_source.h"
#include "apps/reporting/run_report.h"
#include "apps/training/tiny_run.h"
#include "core/file.h"
#include "data/synthetic/shapes_dataset.h"
#include "deploy/detect/evaluation.h"
#include "deploy/graph/file.h"
#include "quant/ptq/split_identity.h"
#include "quant/training/trainable_graph.h"
#include "support/same_tensors.h"

namespace {

using namespace sextant;
using namespace sextant::apps;
using test::error_of;

// A model of a few thousand parameters as a checkpoint of its 20th epoch.
std::string make_model(const std::filesystem::path& path, Json model, int classes = 6,
                       int64_t width = 0) {
  model["width_multiple"] = 0.05;
  model["depth_multiple"] = 0.1;
  const Yolov6Config config = read_yolov6_config(ConfigReader(model, "test", "model."), classes);
  const Yolov6 net(config, 5);
  Rng rng(9);
  // As if trained: predictions that are not zero, features that do not fade with the depth.
  for (const auto& s : net.state()) {
    if (s.tensor.dtype() != DType::kF32 || s.tensor.shape().rank() != 4) continue;
    const bool prediction = s.name.find("_preds") != std::string::npos;
    const float gain = s.name.find("rbr_") != std::string::npos ? 0.9f : 2.0f;
    for (float& v : s.tensor.span<float>())
      v = prediction ? static_cast<float>(rng.uniform(-0.3, 0.3)) : gain * v;
  }
  CheckpointInfo info;
  info.model = config.json();
  for (int c = 0; c < classes; ++c) info.class_names.push_back(data::shape_names()[c]);
  info.image_size = 64;
  info.image_width = width;
  info.epoch = 20;
  save_checkpoint(path, net, info);
  return path.string();
}

Json qat_json(const test::TemporaryFolder& folder, const std::string& model) {
  return {{"seed", 3},
          {"model", model},
          {"batch", 3},
          {"epochs", 2},
          {"calibration", {{"images", 3}, {"method", "max"}}},
          {"data", {{"path", (folder / "data").string()}}},
          {"solver", {{"lr0", 0.01}}}};
}

// Ranges are in the metadata.
void check_same_quantized(const std::filesystem::path& a, const std::filesystem::path& b) {
  const SafeTensors x = load_safetensors(a), y = load_safetensors(b);
  CHECK(x.metadata.at("sextant") == y.metadata.at("sextant"));
  test::check_same_tensors(x, y);
}

// The last row of results.csv, without its empty cells.
std::map<std::string, double> last_row(const std::filesystem::path& out) {
  std::map<std::string, double> last;
  for (const auto& [name, values] : read_results(out / "results.csv"))
    if (std::isfinite(values.back())) last[name] = values.back();
  return last;
}

}  // namespace

TEST_CASE("qat: a run resumes bit for bit, keeps its ranges, and writes int8 models") {
  const test::TemporaryFolder folder;
  test::make_shapes(folder / "data", 6, 2);
  const bool learned = GENERATE(false, true);
  CAPTURE(learned);
  Json json = qat_json(folder, make_model(folder / "model.safetensors", Json::object()));
  json["learn_scales"] = learned;
  json["solver"]["ema_decay"] = learned ? 0.9 : 0.0;
  json["calibration"]["equalize"] = learned ? "none" : "activations";
  const QatConfig config = parse_qat_config(json, "test", "");
  const RunResult whole = train_qat(config, folder / "whole", false);
  CHECK(whole.complete);
  CHECK(whole.start_map50_95 >= 0);
  CHECK(std::filesystem::exists(whole.best_file));

  CHECK_FALSE(train_qat(config, folder / "parts", false, 1).complete);
  QatConfig more_workers = config;
  more_workers.workers = 3;  // must not matter
  train_qat(more_workers, folder / "parts", true);
  for (const char* name : {"start.safetensors", "last.safetensors", "best.safetensors"})
    check_same_quantized(folder / "whole" / name, folder / "parts" / name);
  CHECK(std::ranges::count(read_text(folder / "parts" / "results.csv"), '\n') == 4);
  CHECK(load_json(folder / "parts" / "config.json").at("distill").at("cwd_weight") == 1.0);

  const deploy::Graph start = deploy::load_deploy(folder / "whole" / "start.safetensors"),
                      last = deploy::load_deploy(folder / "whole" / "last.safetensors");
  CHECK(last.quantized());
  bool range_moved = false, weight_moved = false;
  for (size_t t = 0; t < start.tensors.size(); ++t)
    range_moved = range_moved || start.tensors[t].amax != last.tensors[t].amax;
  for (size_t n = 0; n < start.nodes.size(); ++n)
    if (start.nodes[n].has_weight()) {
      weight_moved =
          weight_moved || test::max_difference(start.nodes[n].weight, last.nodes[n].weight) > 0;
      if (!learned) CHECK(start.nodes[n].weight_scale == last.nodes[n].weight_scale);
    }
  CHECK(range_moved == learned);
  CHECK(weight_moved);

  QatConfig other = config;
  other.distill.cwd_weight = 3;
  CHECK(error_of([&] { train_qat(other, folder / "whole", true); }).find("distill.cwd_weight") !=
        std::string::npos);
  CHECK(error_of([&] { train_qat(config, folder / "whole", false); }).find("already holds a run") !=
        std::string::npos);
}

TEST_CASE("qat: a model of images that are not square keeps their shape") {
  const test::TemporaryFolder folder;
  test::make_shapes(folder / "data", 6, 2);
  const std::string model = make_model(folder / "model.safetensors", Json::object(), 6, 96);
  Json json = qat_json(folder, model);
  train_qat(parse_qat_config(json, "test", ""), folder / "run", false);
  const Json resolved = load_json(folder / "run/config.json");
  CHECK(resolved.at("image_size") == Json({64, 96}));
  for (const char* name : {"start.safetensors", "best.safetensors"}) {
    const deploy::Graph graph = deploy::load_deploy(folder / "run" / name);
    CHECK(graph.image_size == 64);
    CHECK(graph.image_width == 96);
  }
  // What was written is read again.
  train_qat(parse_qat_config(resolved, "config.json", ""), folder / "run", true);
  json["image_size"] = {96, 64};
  CHECK(error_of([&] { train_qat(parse_qat_config(json, "test", ""), folder / "other", false); }) ==
        "test: 'image_size' is [96, 64]; the model's shape is kept: leave it out, or give the "
        "height");
}

TEST_CASE("qat: blocks with an identity train with it as a residual") {
  const test::TemporaryFolder folder;
  test::make_shapes(folder / "data", 6, 2);
  deploy::Graph g =
      load_model_graph(make_model(folder / "model.safetensors", {{"type", "yolov6n_opt"}}));
  for (deploy::Node& n : g.nodes) {
    const auto* conv = std::get_if<deploy::ConvAttributes>(&n.attributes);
    if (!conv || conv->stride != 1 || n.weight.dim(1) != 3 || n.weight.dim(0) != n.weight.dim(3))
      continue;
    const int64_t channels = n.weight.dim(0);
    for (int64_t o = 0; o < channels; ++o) n.weight.f32()[(o * 9 + 4) * channels + o] += 4;
  }
  quant::SplitReport split;
  const deploy::Graph start = quant::split_identity(g, &split);
  CHECK(split.layers > 3);
  check_same_structure(g, start);
  CHECK(error_of([&] { check_same_structure(start, g); }).find("does not belong to the model") !=
        std::string::npos);

  deploy::save_deploy(folder / "float.safetensors", g);
  Json json = qat_json(folder, (folder / "float.safetensors").string());
  json["epochs"] = 1;
  train_qat(parse_qat_config(json, "test", ""), folder / "run", false);
  const auto residuals = [&](const char* name) {
    const deploy::Graph trained = deploy::load_deploy(folder / "run" / name);
    return std::ranges::count_if(trained.nodes, [](const auto& n) { return n.has_residual(); });
  };
  CHECK(residuals("start.safetensors") == split.layers);
  CHECK(residuals("best.safetensors") == split.layers);
}

TEST_CASE("qat: SiLU, RepOptimizer and DFL models, float layers, a given start") {
  const test::TemporaryFolder folder;
  test::make_shapes(folder / "data", 6, 2);
  int count = 0;
  const auto run = [&](const Json& model, const Json& more, const deploy::Graph* start = nullptr) {
    const std::string name = "m" + std::to_string(count++);
    Json json = qat_json(folder, make_model(folder / (name + ".safetensors"), model));
    json["epochs"] = 1;
    json.update(more, true);
    train_qat(parse_qat_config(json, "test", ""), folder / name, false, 0, start);
    const auto row = last_row(folder / name);
    CHECK(row.contains("train/loss"));  // finite
    return row;
  };
  const auto silu = run({{"training_mode", "conv_silu"}, {"activation", "silu"}}, Json::object());
  CHECK(silu.at("train/cwd_loss") > 0);
  run({{"training_mode", "repopt"}}, {{"weight_ranges", "follow"}});
  CHECK(run({{"use_dfl", true}, {"reg_max", 16}}, Json::object()).at("train/dfl_loss") > 0);
  const auto alone = run(Json::object(), {{"distill", {{"cwd_weight", 0}, {"logits_weight", 0}}}});
  CHECK(alone.at("train/cwd_loss") == 0);
  CHECK(alone.at("train/obj_loss") == 0);

  run(Json::object(), {{"float_layers", {"detect.*_preds.*", "backbone.stem*"}}});
  deploy::Graph partial = deploy::load_deploy(folder / "m4" / "last.safetensors");
  CHECK(partial.find_node("backbone.stem.rbr_reparam")->precision == deploy::Precision::kFloat32);
  CHECK(partial.find_node("detect.cls_preds.1")->precision == deploy::Precision::kFloat32);
  CHECK(partial.find_node("detect.stems.1.block.conv")->precision == deploy::Precision::kInt8);

  // A given start: its ranges and its float layers.
  for (deploy::TensorInfo& t : partial.tensors) t.amax *= t.amax == 1.0f ? 1.0f : 2.0f;
  run(Json::object(), Json::object(), &partial);
  const deploy::Graph end = deploy::load_deploy(folder / "m5" / "last.safetensors");
  for (size_t t = 0; t < end.tensors.size(); ++t)
    CHECK(end.tensors[t].amax == partial.tensors[t].amax);
  CHECK(end.find_node("detect.cls_preds.1")->precision == deploy::Precision::kFloat32);
  run(Json::object(), {{"start", (folder / "m5" / "last.safetensors").string()}});
  CHECK(deploy::load_deploy(folder / "m6" / "start.safetensors").tensors[3].amax ==
        end.tensors[3].amax);

  // objectness is trained and distilled like the rest
  const Json objectness = {{"objectness", true}};
  CHECK(run(objectness, {{"distill", {{"cwd_weight", 0}, {"logits_weight", 0}}}})
            .at("train/obj_loss") > 0);
  CHECK(run(objectness, {{"loss_weight", 0}, {"distill", {{"logits_weight", 1}}}})
            .at("train/obj_loss") > 0);
  run(Json::object(), {{"solver", {{"optimizer", "adamw"}, {"lr0", 1e-4}}}});
  CHECK(error_of([&] {
          run(Json::object(), {{"float_layers", {"backbone.stm"}}});
        }).starts_with("no layer 'backbone.stm'"));
  CHECK(error_of([&] {
          run(Json::object(), {{"loss", {{"objectness_weight", 1}}}});
        }).find("predicts no objectness") != std::string::npos);
}

TEST_CASE("qat: features of an equalized start are compared at the teacher's scale") {
  const test::TemporaryFolder folder;
  test::make_shapes(folder / "data", 6, 2);
  const std::string path = make_model(folder / "model.safetensors", Json::object());
  Json json = qat_json(folder, path);
  json["epochs"] = 1;
  json["solver"]["lr0"] = 1e-6;
  const auto divergence = [&](const char* name, const Json& more) {
    Json j = json;
    j.update(more, true);
    train_qat(parse_qat_config(j, "test", ""), folder / name, false);
    return last_row(folder / name).at("train/cwd_loss");
  };
  const double plain = divergence("plain", Json::object());
  const Json equalize = {{"calibration", {{"equalize", "activations"}}}};
  CHECK(divergence("equalized", equalize) < 10 * plain);  // in their own sizes 200 times
  const Json start = {{"start", (folder / "equalized" / "start.safetensors").string()}};
  CHECK(divergence("from_file", start) < 10 * plain);

  const Tensor image({1, 64, 64, 3}, DType::kU8);
  Rng rng(4);
  for (uint8_t& v : image.span<uint8_t>()) v = static_cast<uint8_t>(rng.below(256));
  const deploy::Graph model = load_model_graph(path);
  const std::vector<int> necks = quant::neck_outputs(model);
  const auto factors = [&](const char* run) {
    const deploy::Graph g = deploy::load_deploy(folder / run / "start.safetensors");
    return channel_factors(model, g, necks, image);
  };
  for (const Tensor& f : factors("plain")) CHECK_FALSE(f.defined());
  for (const Tensor& f : factors("equalized")) {
    REQUIRE(f.defined());
    const auto [low, high] = std::ranges::minmax(f.span<float>());
    CHECK(low > 0);
    CHECK(high > 1.5f * low);
  }
}

TEST_CASE("qat: one class, images without boxes, batches without any") {
  const test::TemporaryFolder folder;
  test::make_shapes(folder / "data", 6, 2);
  write_atomically(folder / "data" / "classes.json", std::string_view(R"({"names": ["circle"]})"));
  std::map<std::string, int> files;  // by split
  const bool only_one = GENERATE(false, true);
  for (const auto& e : std::filesystem::recursive_directory_iterator(folder / "data" / "labels")) {
    if (!e.is_regular_file()) continue;
    std::string text = read_text(e.path());
    for (size_t at = 0; at < text.size(); at = text.find('\n', at) + 1) text[at] = '0';
    const int number = files[e.path().parent_path().string()]++;
    const bool keep = only_one ? number == 0 : number % 2 == 1;
    write_atomically(e.path(), keep ? text : std::string());
  }
  Json json = qat_json(folder, make_model(folder / "model.safetensors", Json::object(), 1));
  json["learn_scales"] = true;
  json["solver"]["lr0"] = 0.05;
  const RunResult r = train_qat(parse_qat_config(json, "test", ""), folder / "out", false);
  CHECK(r.complete);
  const auto row = last_row(folder / "out");
  CHECK(row.contains("train/loss"));    // finite
  CHECK(row.at("train/cls_loss") > 0);  // distillation of one class included
  for (const auto& [name, t] : load_safetensors(folder / "out" / "resume.safetensors").tensors)
    if (t.dtype() == DType::kF32)
      for (const float v : t.span<float>())
        if (!std::isfinite(v)) FAIL(name);
}

TEST_CASE("qat: refusals of the config, and defaults from the model's training") {
  const test::TemporaryFolder folder;
  test::make_shapes(folder / "data", 6, 2);
  const std::string model = make_model(folder / "model.safetensors", Json::object());
  const auto parse = [&](const Json& more) {
    Json json = qat_json(folder, model);
    json.erase("epochs");
    json.erase("solver");
    json.update(more, true);
    return parse_qat_config(json, "q.json", "");
  };
  const auto resolved = [&](const Json& more) {
    QatConfig c = parse(more);
    c.resolve(load_source_model(c.model));
    return c;
  };
  const QatConfig c = resolved(Json::object());
  CHECK(c.epochs == 2);  // of the checkpoint's 20
  CHECK(c.image_size == 64);
  CHECK(c.solver.lr0 == Approx(0.01 * 0.02 * 3 / 16));
  CHECK(c.solver.nominal_batch == 3);
  CHECK(resolved({{"solver", {{"lr0", 0}}}}).solver.lr0 == 0);
  write_atomically(folder / "config.json",
                   std::string_view(R"({"epochs": 70, "batch": 8, "solver": {"lr0": 0.1},
                                        "model": {}, "loss": {"iou_weight": 4}})"));
  const QatConfig beside_run = resolved(Json::object());
  CHECK(beside_run.epochs == 7);
  CHECK(load_source_model(model).loss.iou_weight == 4);
  CHECK(beside_run.solver.lr0 == Approx(0.01 * 0.1 * 3 / 8));

  const auto error = [&](const Json& more) { return error_of([&] { parse(more); }); };
  CHECK(error({{"distil", {{"cwd_weight", 1}}}}) ==
        "q.json: unknown key 'distil'; nearest is 'distill'");
  CHECK(error({{"weight_ranges", "fixed"}}) ==
        "q.json: 'weight_ranges': unknown weight ranges 'fixed'; use frozen, follow or learned");
  CHECK(error({{"loss", {{"iuo", "siou"}}}}) ==
        "q.json: unknown key 'loss.iuo'; nearest is 'loss.iou'");
  CHECK(error({{"loss_weight", 0}, {"distill", {{"cwd_weight", 0}, {"logits_weight", 0}}}})
            .find("no loss is left to train by") != std::string::npos);
  CHECK(error({{"calibration", {{"method", "median"}}}}) ==
        "q.json: 'calibration.method': unknown calibration method 'median'; use mse, percentile, "
        "entropy or max");
  const auto run_error = [&](const Json& more) {
    return error_of([&] { train_qat(parse(more), folder / "refused", false); });
  };
  CHECK(run_error({{"model", (folder / "absent").string()}}).find("absent") != std::string::npos);
  CHECK(run_error({{"image_size", 100}}) ==
        "q.json: 'image_size' is 100, must be a multiple of 32 and at most 8192");
  CHECK(run_error({{"float_layers", {"bakbone*"}}}).find("'bakbone*'") != std::string::npos);
  CHECK(run_error({{"distill", {{"features", {"nowhere"}}}}}).find("'nowhere'") !=
        std::string::npos);
  const std::string wide =
      make_model(folder / "wide.safetensors", {{"neck_channels", {512, 256, 256, 512, 512, 1024}}});
  CHECK(error_of([&] {
          check_same_structure(load_model_graph(model), load_model_graph(wide));
        }).find("does not belong to the model") != std::string::npos);
  deploy::save_deploy(folder / "float.safetensors", load_model_graph(model));
  CHECK(run_error({{"start", (folder / "float.safetensors").string()}})
            .find("has no activation ranges") != std::string::npos);
}

TEST_CASE("a ladder: files of each rung, resuming, and sizes that do not fit") {
  const test::TemporaryFolder folder;
  test::make_shapes(folder / "data", 6, 2);
  const Json json = {
      {"model", make_model(folder / "model.safetensors", Json::object())},
      {"data", {{"path", (folder / "data").string()}}},
      {"rungs", {"fp32", "ptq", "qat"}},
      {"ptq", {{"method", "max"}, {"images", 3}}},
      {"qat", {{"epochs", 1}, {"batch", 3}, {"seed", 3}, {"solver", {{"lr0", 0.01}}}}},
      {"bench", {{"image_size", 64}, {"runs", 1}}},
      {"verify_images", 1}};
  const auto parse = [&](const Json& more) {
    Json merged = json;
    merged.merge_patch(more);
    return parse_ladder_config(merged, "c.json", "");
  };
  const std::filesystem::path out = folder / "out";
  const Ladder l = climb(parse(Json::object()), out, false);
  REQUIRE(l.rungs.size() == 3);
  CHECK(l.rungs[0].float_layers == l.rungs[0].layers);
  CHECK(l.rungs[1].float_layers == 0);
  CHECK(l.rungs[2].title == "QAT");
  CHECK(load_json(out / "ladder.json").at("rungs").size() == 3);
  CHECK(deploy::load_deploy(out / "ptq.safetensors").quantized());
  CHECK_FALSE(load_json(out / "qat_run" / "config.json").at("distill").at("cwd_weight") > 0);

  const std::string before = read_text(out / "qat.json");
  climb(parse(Json::object()), out, true);
  CHECK(read_text(out / "qat.json") == before);
  CHECK(error_of([&] {
          climb(parse({{"verify_images", 2}}), out, true);
        }).find("holds a ladder with a different 'verify_images'") != std::string::npos);

  // More rungs come beside those that are there; fewer, or another start of the last, do not.
  const Ladder longer = climb(parse({{"rungs", {"fp32", "naive", "ptq", "qat"}}}), out, true);
  CHECK(longer.rungs.size() == 4);
  CHECK(read_text(out / "qat.json") == before);
  CHECK(load_json(out / "config.json").at("rungs").size() == 4);
  const auto resumed_with = [&](const std::vector<std::string>& rungs) {
    return error_of([&] { climb(parse({{"rungs", rungs}}), out, true); });
  };
  CHECK(resumed_with({"fp32", "ptq", "qat"}).find("has the rung 'naive', which the config lacks") !=
        std::string::npos);
  CHECK(resumed_with({"fp32", "naive", "ptq", "ptq_plus", "qat"}).find("choose another folder") !=
        std::string::npos);
  {
    const FolderLock lock(out);
    CHECK(error_of([&] { climb(parse(Json::object()), out, true); }).find("is in use") !=
          std::string::npos);
  }

  const auto refused = [&](const Json& more) {
    return error_of([&] { climb(parse(more), folder / "refused", false); });
  };
  CHECK(refused({{"image_size", 100}}) ==
        "c.json: 'image_size' is 100, must be a multiple of 32 and at most 8192");
  CHECK(refused({{"bench", {{"image_size", 100}}}}) ==
        "c.json: 'bench.image_size' is 100, must be a multiple of 32 and at most 8192");
  CHECK_FALSE(std::filesystem::exists(folder / "refused"));
}
