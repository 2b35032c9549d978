// SPDX-License-Identifier: Apache-2.0
// The whole training path on a handful of drawn shapes.
#include <cstring>
#include <fstream>

#include "apps/model_files/checkpoint.h"
#include "apps/model_files/import.h"
#include "apps/reporting/run_report.h"
#include "apps/training/tiny_run.h"
#include "apps/training/trainer.h"
#include "core/file.h"
#include "deploy/detect/evaluation.h"
#include "deploy/engine/simulate.h"
#include "deploy/graph/file.h"
#include "support/same_tensors.h"

namespace {

using namespace sextant;
using namespace sextant::apps;
using sextant::test::Contains;
using test::check_same_tensors;
using test::error_of;
using test::make_shapes;
using test::tiny_config;

}  // namespace

TEST_CASE("a run can be stopped after any epoch and goes on bit for bit") {
  const test::TemporaryFolder folder;
  make_shapes(folder / "data");
  const TrainConfig config = tiny_config(folder / "data");
  train(config, folder / "whole", false);

  train(config, folder / "parts", false, 1);
  CHECK(load_safetensors(folder / "parts" / "resume.safetensors").tensors.size() > 10);
  TrainConfig more_workers = config;
  more_workers.workers = 3;  // must not matter
  train(more_workers, folder / "parts", true, 1);
  // What a kill while writing leaves behind: a temporary file, and results ahead of the state.
  std::ofstream(folder / "parts" / "resume.safetensors.tmp999") << "half";
  std::ofstream(folder / "parts" / "results.csv", std::ios::app) << "9,nonsense\n";
  train(more_workers, folder / "parts", true);
  for (const char* name : {"last.safetensors", "best.safetensors", "model.safetensors"})
    check_same_tensors(folder / "whole" / name, folder / "parts" / name);

  const std::string csv = read_text(folder / "parts" / "results.csv");
  CHECK(std::ranges::count(csv, '\n') == 4);
  CHECK(csv.starts_with("epoch,time,train/box_loss,"));
  CHECK(std::filesystem::exists(folder / "parts" / "loss.png"));
  CHECK(load_json(folder / "parts" / "config.json").at("epochs") == 3);

  // A finished run resumes to nothing; another config is refused by the key.
  train(config, folder / "whole", true);
  check_same_tensors(folder / "whole" / "last.safetensors", folder / "parts" / "last.safetensors");
  TrainConfig other = config;
  other.solver.lr0 = 0.5;
  CHECK(error_of([&] { train(other, folder / "whole", true); }).find("solver.lr0") !=
        std::string::npos);
  CHECK(error_of([&] { train(config, folder / "whole", false); }).find("already holds a run") !=
        std::string::npos);
}

TEST_CASE("a part of the images, all classes as one, checkpoints that are kept") {
  const test::TemporaryFolder folder;
  make_shapes(folder / "data");
  Json json = test::tiny_json(folder / "data");
  json["save_period"] = 2;
  json["data"]["fraction"] = 0.5;
  json["data"]["single_cls"] = true;
  TrainConfig config = parse_train_config(json, "test", "");
  const data::Dataset whole = config.data.open("train"), half = config.data.open_train();
  REQUIRE(half.size() == whole.size() / 2);
  std::vector<std::string> kept, again;
  for (const auto& s : half.samples) kept.push_back(s.image.filename().string());
  CHECK(std::ranges::is_sorted(kept));
  // Without one of the others the part is the same.
  for (const auto& s : whole.samples)
    if (std::ranges::find(kept, s.image.filename().string()) == kept.end()) {
      std::filesystem::remove(s.image);
      break;
    }
  config.data.fraction = 5.0 / 9;
  for (const auto& s : config.data.open_train().samples)
    again.push_back(s.image.filename().string());
  CHECK(again == kept);
  config.data.fraction = 0.5;

  CHECK(whole.names == std::vector<std::string>{"object"});
  for (const auto& s : whole.samples)
    for (const auto& l : s.labels) CHECK(l.category == 0);
  config.epochs = 4;
  train(config, folder / "run", false, 3);
  CHECK(std::filesystem::exists(folder / "run" / "epoch_2.safetensors"));
  CHECK(!std::filesystem::exists(folder / "run" / "epoch_3.safetensors"));
  train(config, folder / "run", true);
  check_same_tensors(folder / "run" / "epoch_4.safetensors", folder / "run" / "last.safetensors");
  // Such a model takes the data with all its classes, another does not.
  const deploy::Graph graph = load_model_graph((folder / "run" / "last.safetensors").string());
  CHECK(deploy::open_dataset_for(graph, (folder / "data").string(), "val").num_classes() == 1);
  deploy::Graph other = graph;
  other.class_names = {"thing"};
  CHECK_THROWS(deploy::open_dataset_for(other, (folder / "data").string(), "val"));
  // An older run has neither key.
  Json resolved = load_json(folder / "run" / "config.json");
  CHECK(resolved["data"]["fraction"] == 0.5);
  config.data.fraction = 1;
  CHECK(error_of([&] { train(config, folder / "run", true); }).find("data.fraction") !=
        std::string::npos);
}

TEST_CASE("weights to start from: an official .pt file is what import makes of it") {
  const test::TemporaryFolder folder;
  const auto shared = test::shared_folder();
  if (!shared) return test::skip("the checkpoints are absent; set SEXTANT_SHARED");
  const auto file = *shared / "checkpoints" / "yolov6n_repvgg_bccd.pt";
  import_checkpoint(file, folder / "imported.safetensors", {});
  const SafeTensors imported = load_safetensors(folder / "imported.safetensors"),
                    direct = load_weights(file);
  REQUIRE(direct.tensors.size() == imported.tensors.size());
  for (const auto& [name, t] : imported.tensors)
    CHECK(std::memcmp(direct.at(name).raw(), t.raw(), static_cast<size_t>(t.bytes())) == 0);
  CHECK(direct.metadata == imported.metadata);
  CHECK(direct.path == file.string());
  CHECK_THAT(error_of([&] { load_weights(folder / "none.pt"); }), Contains("none.pt"));
  // Of another model: what the file holds is a command away.
  make_shapes(folder / "data");
  TrainConfig config = tiny_config(folder / "data");
  config.init = file.string();
  CHECK_THAT(error_of([&] { train(config, folder / "run", false); }),
             Contains("the model needs") && Contains("`sextant import " + file.string()));
}

TEST_CASE("images that are not square: a run, resumed, and what it leaves") {
  const test::TemporaryFolder folder;
  make_shapes(folder / "data");
  Json json = test::tiny_json(folder / "data");
  json["image_size"] = {64, 96};
  json["multi_scale"] = GENERATE(0.0, 0.5);
  const TrainConfig config = parse_train_config(json, "test", "");
  train(config, folder / "whole", false);
  train(config, folder / "parts", false, 1);
  train(config, folder / "parts", true);
  check_same_tensors(folder / "whole/last.safetensors", folder / "parts/last.safetensors");
  CHECK(load_json(folder / "whole/config.json").at("image_size") == Json({64, 96}));
  CHECK(data::image_size(folder / "whole/train_batch.png") == data::ImageSize{2 * 96, 2 * 64});
  const deploy::Graph graph = deploy::load_deploy(folder / "whole/model.safetensors");
  CHECK(graph.image_size == 64);
  CHECK(graph.image_width == 96);
  CHECK(load_checkpoint(load_safetensors(folder / "whole/best.safetensors")).info.image_width ==
        96);

  json["image_size"] = {64, 100};
  CHECK_THAT(error_of([&] { parse_train_config(json, "test", ""); }),
             Contains("'image_size' is 100, must be a multiple of 32"));
  for (const Json& wrong : {Json({64}), Json({64, 96, 3}), Json({64, 5000}), Json::array()}) {
    json["image_size"] = wrong;
    CHECK_THAT(error_of([&] { parse_train_config(json, "test", ""); }),
               Contains("must be a height and a width in [64, 4096]"));
  }
}

TEST_CASE("fine-tuning: another class count, frozen modules, a grey border, scales, patience") {
  const test::TemporaryFolder folder;
  make_shapes(folder / "data");
  TrainConfig config = tiny_config(folder / "data");
  config.epochs = 1;
  train(config, folder / "base", false);
  const std::string base = (folder / "base" / "last.safetensors").string();

  // The same weights with two classes instead of three: only the class predictions start anew.
  LoadedCheckpoint loaded = load_checkpoint(load_safetensors(base));
  Yolov6Config fewer = loaded.model->config();
  fewer.num_classes -= 1;
  Yolov6 other(fewer, 99), fresh(fewer, 99);
  CHECK(initialise_from(load_safetensors(base), other) == 6);  // weight and bias of three levels
  const auto a = other.state(), b = loaded.model->state(), f = fresh.state();
  for (size_t i = 0; i < a.size(); ++i) {
    INFO(a[i].name);
    const bool prediction = a[i].name.find("cls_preds") != std::string::npos;
    if (a[i].tensor.dtype() == DType::kF32)
      CHECK(test::max_difference(a[i].tensor, (prediction ? f : b)[i].tensor) == 0);
  }
  Yolov6Config wider = fewer;
  wider.width_multiple *= 3;
  Yolov6 wrong(wider, 1);
  CHECK(error_of([&] {
          initialise_from(load_safetensors(base), wrong);
        }).find("backbone.stem.rbr_dense.conv.weight") != std::string::npos);

  config.init = base;
  config.freeze = {"backbone", "neck.Rep_p4"};
  config.gray_border = 3;
  config.multi_scale = 0.5;
  config.epochs = 2;
  train(config, folder / "tuned", false);
  const SafeTensors before = load_safetensors(base),
                    after = load_safetensors(folder / "tuned" / "last.safetensors");
  bool moved = false;
  for (const auto& [name, t] : after.tensors) {
    if (t.dtype() != DType::kF32) continue;
    const double d = test::max_difference(t, before.at(name));
    INFO(name);
    if (name.starts_with("backbone.") || name.starts_with("neck.Rep_p4.")) CHECK(d == 0);
    moved = moved || d > 0;
  }
  CHECK(moved);
  CHECK(load_model_graph((folder / "tuned" / "model.safetensors").string()).gray_border == 3);
  config.freeze = {"backbon"};
  CHECK(error_of([&] { train(config, folder / "typo", false); }).find("'backbon'") !=
        std::string::npos);

  // A rate of zero never gets better than its first evaluation.
  config.freeze = {};
  config.multi_scale = 0;
  config.solver.lr0 = config.solver.warmup_bias_lr = 0;
  config.solver.ema_decay = 0;
  config.epochs = 9;
  config.eval_interval = 1;
  config.patience = 2;
  CHECK(train(config, folder / "patient", false).best_epoch == 1);
  CHECK(load_json(folder / "patient" / "config.json").at("patience") == 2);
  const std::string rows = read_text(folder / "patient" / "results.csv");
  CHECK(std::ranges::count(rows, '\n') == 4);  // the header, and epochs 1 to 3
}

TEST_CASE("losses, assigners, branches and teachers by config") {
  const test::TemporaryFolder folder;
  make_shapes(folder / "data");
  int count = 0;
  const auto run = [&](const Json& model, const Json& loss, const std::string& teacher = "") {
    Json json = tiny_config(folder / "data").json();
    json["epochs"] = 1;
    json["model"].update(model);
    json["loss"] = loss;
    json["teacher"] = teacher;
    const auto out = folder / std::to_string(count++);
    train(parse_train_config(json, "test", ""), out, false);
    return out;
  };
  const auto row = [](const std::filesystem::path& out) {
    std::map<std::string, double> first;
    for (const auto& [name, values] : read_results(out / "results.csv")) first[name] = values.at(0);
    return first;
  };
  const Json none = Json::object();
  const auto plain = row(run(none, none));
  const Json dfl = {{"use_dfl", true}, {"reg_max", 16}};
  for (const Json& loss :
       {Json{{"assigner", "simota"}}, Json{{"atss_warmup_epochs", 1}}, Json{{"cls", "focal"}},
        Json{{"cls", "quality_focal"}}, Json{{"cls", "poly"}}, Json{{"iou", "alpha_iou"}}}) {
    CAPTURE(loss.dump());
    const auto other = row(run(none, loss));
    CHECK(std::isfinite(other.at("train/loss")));
    CHECK(other.at("train/loss") != plain.at("train/loss"));
    CHECK(other.at("val/loss") > 0);
  }
  CHECK(row(run({{"fuse_ab", true}}, none)).at("train/loss") > plain.at("train/loss"));
  CHECK(row(run({{"activation", "silu"}, {"type", "yolov6n"}}, none)).at("train/loss") > 0);
  const auto teacher = run(dfl, none);
  const std::string file = (teacher / "last.safetensors").string();
  CHECK(row(teacher).at("train/dfl_loss") > 0);
  CHECK(row(teacher).at("val/dfl_loss") > 0);
  CHECK(row(teacher).at("train/cwd_loss") == 0);
  const auto taught = row(run(dfl, {{"distill_feat_weight", 10}}, file));
  CHECK(taught.at("train/cwd_loss") > 0);
  Json student = dfl;
  student["distill_ns"] = true;
  CHECK(row(run(student, none, file)).at("train/box_loss") >
        row(teacher).at("train/box_loss"));  // two of them
  CHECK(error_of([&] {
          run(none, {{"objectness_weight", 1}});
        }) ==
        "test: 'loss.objectness_weight' is 1, but the head predicts no objectness "
        "('model.objectness')");
  CHECK(error_of([&] {
          run({{"objectness", true}}, {{"objectness_weight", 0}});
        }) == "test: 'loss.objectness_weight' is 0, but the head predicts objectness");
  CHECK(error_of([&] {
          run(none, {{"iuo", "siou"}});
        }).find("unknown key 'loss.iuo'") != std::string::npos);
}

TEST_CASE("the loss falls, and another seed gives another run") {
  const test::TemporaryFolder folder;
  make_shapes(folder / "data");
  TrainConfig config = tiny_config(folder / "data");
  config.epochs = 30;
  config.eval_interval = 100;
  config.solver.nominal_batch = 4;
  train(config, folder / "a", false);
  const auto losses = read_results(folder / "a" / "results.csv").at("train/loss");
  REQUIRE(losses.size() == 30);
  CHECK(losses.back() < 0.92 * losses.front());
  config.epochs = 1;
  config.seed = 8;
  train(config, folder / "b", false);
  config.seed = 7;
  train(config, folder / "c", false);
  const SafeTensors b = load_safetensors(folder / "b" / "last.safetensors"),
                    c = load_safetensors(folder / "c" / "last.safetensors");
  CHECK(test::max_difference(b.tensors[0].second, c.tensors[0].second) > 0);
}

TEST_CASE("objectness starts anew from a checkpoint without it") {
  const test::TemporaryFolder folder;
  make_shapes(folder / "data");
  TrainConfig config = tiny_config(folder / "data");
  config.epochs = 1;
  train(config, folder / "base", false);
  const SafeTensors base = load_safetensors(folder / "base" / "last.safetensors");
  Yolov6Config with = read_yolov6_config(ConfigReader(config.model, "test", "model."), 6);
  with.objectness = true;
  Yolov6 model(with, 3);
  CHECK(initialise_from(base, model) == 6);  // weight and bias of three levels
  for (const StateRef& s : model.state())
    if (s.name == "detect.cls_preds.0.bias")
      CHECK(test::max_difference(s.tensor, base.at(s.name)) == 0);
  SafeTensors less = base;
  std::erase_if(less.tensors, [](const auto& t) { return t.first == "detect.reg_preds.0.bias"; });
  CHECK(error_of([&] { initialise_from(less, model); }).find("detect.reg_preds.0.bias") !=
        std::string::npos);
}

TEST_CASE("a model with objectness trains by config, and its scores are products") {
  const test::TemporaryFolder folder;
  make_shapes(folder / "data");
  Json json = tiny_config(folder / "data").json();
  json["model"]["objectness"] = true;
  json["loss"]["assigner"] = "simota";
  json["epochs"] = 12;
  json["eval_interval"] = 100;
  json["solver"]["nominal_batch"] = 4;
  const TrainConfig config = parse_train_config(json, "test", "");
  train(config, folder / "run", false, 6);
  train(config, folder / "run", true);
  CHECK(load_json(folder / "run" / "config.json").at("loss").at("objectness_weight") == 1.0);
  const auto losses = read_results(folder / "run" / "results.csv").at("train/obj_loss");
  REQUIRE(losses.size() == 12);
  CHECK(losses.front() > 0);
  CHECK(losses.back() < 0.9 * losses.front());

  const std::string best = (folder / "run" / "best.safetensors").string(),
                    deployed = (folder / "run" / "model.safetensors").string();
  const deploy::Graph graph = load_model_graph(deployed);
  CHECK(graph.decode()->as<deploy::DecodeAttributes>().objectness);
  const auto dataset = data::open_dataset(folder / "data", "val");
  CHECK(
      evaluate(load_model_graph(best), dataset, 64, deploy::Precision::kFloat32).metrics.stats() ==
      deploy::evaluate(graph, dataset, 64, deploy::Precision::kFloat32).metrics.stats());
  deploy::Engine engine(graph, {1, 64, 64});
  Tensor image({1, 64, 64, 3}, DType::kU8);
  Rng rng(3);
  for (uint8_t& v : image.span<uint8_t>()) v = static_cast<uint8_t>(rng.below(256));
  const Tensor rows = engine.run(image);
  bool varies = false;
  for (int64_t i = 0; i < rows.dim(1); ++i) {
    const float o = rows.f32()[i * rows.dim(2) + 4];
    CHECK((o > 0 && o < 1));
    varies |= o != rows.f32()[4];
  }
  CHECK(varies);
}

TEST_CASE("adam and adamw by config, resumed bit for bit") {
  const test::TemporaryFolder folder;
  make_shapes(folder / "data");
  const auto config = [&](const Json& solver) {
    Json json = tiny_config(folder / "data").json();
    json["solver"] = {{"nominal_batch", 8}, {"warmup_epochs", 1}};
    json["solver"].update(solver);
    return parse_train_config(json, "test", "");
  };
  const auto weights = [&](const char* name) {
    return load_safetensors(folder / name / "last.safetensors");
  };
  const Json decay = {{"lr0", 0.002}, {"weight_decay", 0.5}};
  for (const char* optimizer : {"adam", "adamw"}) {
    Json solver = decay;
    solver["optimizer"] = optimizer;
    train(config(solver), folder / optimizer, false);
    CHECK(load_json(folder / optimizer / "config.json").at("solver").at("optimizer") == optimizer);
  }
  Json solver = decay;
  solver["optimizer"] = "adamw";
  train(config(solver), folder / "parts", false, 1);
  const SafeTensors state = load_safetensors(folder / "parts" / "resume.safetensors");
  CHECK(state.at("optimizer.step.backbone.stem.rbr_dense.conv.weight").data<int64_t>()[0] > 0);
  train(config(solver), folder / "parts", true);
  check_same_tensors(folder / "adamw" / "last.safetensors", folder / "parts" / "last.safetensors");
  // each setting counts
  solver["betas"] = {0.5, 0.9};
  train(config(solver), folder / "betas", false);
  train(config({{"lr0", 0.002}, {"weight_decay", 0.5}}), folder / "sgd", false);
  const Tensor adamw = weights("adamw").at("backbone.stem.rbr_dense.conv.weight");
  for (const char* name : {"adam", "betas", "sgd"}) {
    CAPTURE(name);
    CHECK(test::max_difference(adamw, weights(name).at("backbone.stem.rbr_dense.conv.weight")) > 0);
  }
  solver["betas"] = {0.5, 0.99};
  CHECK(error_of([&] { train(config(solver), folder / "betas", true); }).find("solver.betas") !=
        std::string::npos);
}

TEST_CASE("a run from before other optimizers were there goes on as SGD's") {
  const test::TemporaryFolder folder;
  make_shapes(folder / "data");
  const TrainConfig config = tiny_config(folder / "data");
  train(config, folder / "whole", false);
  train(config, folder / "run", false, 1);
  SafeTensors state = load_safetensors(folder / "run" / "resume.safetensors");
  Json meta = Json::parse(state.meta("sextant"));
  meta["config"]["solver"].erase("optimizer");
  meta["config"]["model"].erase("objectness");
  for (Json& row : meta["rows"])
    while (row.size() > 9) row.erase(9);
  state.metadata["sextant"] = meta.dump();
  save_safetensors(folder / "run" / "resume.safetensors", state);
  CHECK(train(config, folder / "run", true).trained == 2);
  check_same_tensors(folder / "whole" / "last.safetensors", folder / "run" / "last.safetensors");
}

TEST_CASE("a checkpoint evaluates like the graph made from it, and foreign files are refused") {
  const test::TemporaryFolder folder;
  make_shapes(folder / "data");
  TrainConfig config = tiny_config(folder / "data");
  config.epochs = 1;
  train(config, folder / "run", false);
  const auto dataset = data::open_dataset(folder / "data", "val");
  const std::string best = (folder / "run" / "best.safetensors").string(),
                    deployed = (folder / "run" / "model.safetensors").string();
  const deploy::Graph a = load_model_graph(best), b = load_model_graph(deployed);
  const auto x = evaluate(a, dataset, 64, deploy::Precision::kFloat32),
             y = evaluate(b, dataset, 64, deploy::Precision::kFloat32);
  CHECK(x.metrics.stats() == y.metrics.stats());
  CHECK(x.times.images == 4);

  write_atomically(folder / "text", std::string_view("not a model"));
  CHECK(error_of([&] {
          load_model_graph((folder / "text").string());
        }).find("text: is not a safetensors file") != std::string::npos);
  SafeTensors foreign;
  foreign.add("w", Tensor::zeros(Shape{1}));
  save_safetensors(folder / "foreign", foreign);
  CHECK(error_of([&] {
          load_model_graph((folder / "foreign").string());
        }).find("neither a checkpoint nor a deploy file") != std::string::npos);
  CHECK(error_of([&] {
          evaluate(a, dataset, 64, deploy::Precision::kInt8);
        }).find("has no activation ranges; run sextant quantize") != std::string::npos);
}

TEST_CASE("configs are checked before anything is read or written") {
  const auto error = [](const char* text) {
    return error_of([&] { parse_train_config(Json::parse(text), "c.json", ""); });
  };
  CHECK(error(R"({"epoch": 1})") == "c.json: 'data.path' is missing");
  CHECK(error(R"({"epoch": 1, "data": {"path": "x"}})") ==
        "c.json: unknown key 'epoch'; nearest is 'epochs'");
  CHECK(error(R"({"data": {"path": "x"}, "model": {"widht_multiple": 1}})") ==
        "c.json: unknown key 'model.widht_multiple'; nearest is 'model.width_multiple'");
  CHECK(error(R"({"data": {"path": "x"}, "image_size": 100})") ==
        "c.json: 'image_size' is 100, must be a multiple of 32");
  CHECK(error(R"({"data": {"path": "x"}, "solver": {"lr0": -1}})") ==
        "c.json: 'solver.lr0' is -1, must be in [0, 10]");
  CHECK(error(R"({"data": {"path": "x"}, "solver": {"optimizer": "lion"}})") ==
        "c.json: 'solver.optimizer': unknown optimizer 'lion'; use sgd, adam or adamw");
  CHECK(error(R"({"data": {"path": "x"}, "solver": {"optimizer": "adamw"}})") ==
        "c.json: 'solver.lr0' is missing, 'solver.optimizer' \"adamw\" needs its own");
  CHECK(error(R"({"data": {"path": "x"}, "solver": {"betas": [0.9, 0.99]}})") ==
        "c.json: 'solver.betas' goes with 'solver.optimizer' \"adam\" or \"adamw\"");
  CHECK(error(R"({"data": {"path": "x"},
                  "solver": {"optimizer": "adam", "lr0": 0.001, "betas": [0.9, 1]}})") ==
        "c.json: 'solver.betas' is [0.9, 1], must be two numbers in [0, 1)");
  CHECK(error(R"({"data": {"path": "x"}, "model": {"type": "yolov7"}})")
            .starts_with("c.json: 'model.type': unknown model type 'yolov7'; use yolov6n_opt, "));
  CHECK(first_difference(Json::parse(R"({"a": {"b": 1}})"), Json::parse(R"({"a": {"b": 2}})")) ==
        "a.b");
  CHECK(!first_difference(Json::parse(R"({"a": 1})"), Json::parse(R"({"a": 1})")));
}
