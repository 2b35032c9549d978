// SPDX-License-Identifier: Apache-2.0
// A RepOptimizer run from search to target: stopped and resumed on both sides of the boundary, with
// the scales of another run, and what it refuses.
#include "apps/model_files/checkpoint.h"
#include "apps/training/repopt.h"
#include "apps/training/solver.h"
#include "apps/training/tiny_run.h"
#include "core/file.h"
#include "support/same_tensors.h"

namespace {

using namespace sextant;
using namespace sextant::apps;
using test::check_same_tensors;
using test::error_of;
using test::make_shapes;

Json repopt_json(const std::filesystem::path& data) {
  Json json = test::tiny_json(data);
  json["training"] = {{"mode", "repopt"}, {"search", {{"epochs", 2}}}};
  return json;
}

TrainConfig repopt_config(const std::filesystem::path& data) {
  return parse_train_config(repopt_json(data), "test", "");
}

}  // namespace

TEST_CASE("repopt by AdamW: multipliers of its own, resumed bit for bit") {
  const test::TemporaryFolder folder;
  make_shapes(folder / "data");
  Json json = repopt_json(folder / "data");
  json["epochs"] = 2;
  json["training"]["search"]["epochs"] = 1;
  json["solver"]["optimizer"] = "adamw";
  json["solver"]["lr0"] = 0.002;
  const TrainConfig config = parse_train_config(json, "test", "");
  CHECK(rep_rule(config.solver) == optim::RepRule::kAdam);
  CHECK(rep_rule(SolverConfig{}) == optim::RepRule::kSgd);
  const auto whole = folder / "whole", parts = folder / "parts";
  CHECK(train_repopt(config, whole, {}).complete);
  CHECK_FALSE(train_repopt(config, parts, {.stop_after = 2}).complete);
  CHECK(train_repopt(config, parts, {.resume = true}).complete);
  check_same_tensors(whole / "last.safetensors", parts / "last.safetensors");
}

TEST_CASE("repopt: search and target in one folder, resumed bit for bit across the boundary") {
  const test::TemporaryFolder folder;
  make_shapes(folder / "data");
  const TrainConfig config = repopt_config(folder / "data");
  const auto whole = folder / "whole", parts = folder / "parts";
  const RunResult r = train_repopt(config, whole, {});
  CHECK(r.complete);
  CHECK(r.trained == 3);
  CHECK(load_json(whole / "search" / "config.json").at("model").at("training_mode") ==
        "hyper_search");
  CHECK(load_json(whole / "config.json").at("model").at("training_mode") == "repopt");
  CHECK(load_json(whole / "config.json").at("training").at("search").at("epochs") == 2);

  // Inside the search, at its very end, and inside the target.
  CHECK_FALSE(train_repopt(config, parts, {.stop_after = 1}).complete);
  CHECK_FALSE(std::filesystem::exists(parts / "scales.safetensors"));
  CHECK_FALSE(train_repopt(config, parts, {.resume = true, .stop_after = 1}).complete);
  CHECK(std::filesystem::exists(parts / "scales.safetensors"));
  CHECK_FALSE(std::filesystem::exists(parts / "config.json"));
  CHECK_FALSE(train_repopt(config, parts, {.resume = true, .stop_after = 2}).complete);
  CHECK(train_repopt(config, parts, {.resume = true}).complete);
  for (const char* name : {"search/last.safetensors", "scales.safetensors", "last.safetensors",
                           "best.safetensors", "model.safetensors"})
    check_same_tensors(whole / name, parts / name);

  // One call over the boundary with an end in the target.
  const auto across = folder / "across";
  CHECK(train_repopt(config, across, {.stop_after = 3}).trained == 1);
  CHECK(train_repopt(config, across, {.resume = true}).trained == 2);
  check_same_tensors(whole / "last.safetensors", across / "last.safetensors");

  // The scales are those of the search's averaged weights, and they have been learned.
  const auto scales = optim::extract_scales(load_safetensors(whole / "scales.safetensors"));
  const SafeTensors last = load_safetensors(whole / "search" / "last.safetensors");
  CHECK(scales.fingerprint() == optim::extract_scales(last).fingerprint());
  const auto start = scales_of_search(load_checkpoint(last).model->config());
  CHECK(scales.blocks.size() == start.blocks.size());
  CHECK(scales.fingerprint() != start.fingerprint());
}

TEST_CASE("repopt: the scales of another run take the place of the search") {
  const test::TemporaryFolder folder;
  make_shapes(folder / "data");
  TrainConfig config = repopt_config(folder / "data");
  config.epochs = 1;
  const auto first = folder / "first";
  train_repopt(config, first, {});
  for (const std::string from :
       {"", "/search", "/search/last.safetensors", "/scales.safetensors"}) {
    INFO(from);
    const auto out = folder / ("from" + std::to_string(from.size()));
    CHECK(train_repopt(config, out, {.from = first.string() + from}).complete);
    CHECK_FALSE(std::filesystem::exists(out / "search"));
    check_same_tensors(first / "last.safetensors", out / "last.safetensors");
  }
  // Other scales are another run.
  SafeTensors other = load_safetensors(first / "scales.safetensors");
  for (auto& [name, tensor] : other.tensors)
    for (float& v : tensor.span<float>()) v *= 1.25f;
  save_safetensors(folder / "other.safetensors", other);
  const auto out = folder / "other";
  train_repopt(config, out, {.from = (folder / "other.safetensors").string()});
  CHECK(test::max_difference(load_safetensors(first / "last.safetensors").tensors[0].second,
                             load_safetensors(out / "last.safetensors").tensors[0].second) > 0);
}

TEST_CASE("repopt: what does not fit is refused before anything is written") {
  const test::TemporaryFolder folder;
  make_shapes(folder / "data");
  TrainConfig config = repopt_config(folder / "data");
  config.epochs = config.training.search_epochs = 1;
  const auto first = folder / "first", out = folder / "out";
  train_repopt(config, first, {});
  CHECK(error_of([&] { train_repopt(config, first, {}); }).find("already holds a run") !=
        std::string::npos);
  CHECK(error_of([&] {
          train_repopt(config, first, {.resume = true, .from = first.string()});
        }).find("it cannot take those of") != std::string::npos);
  CHECK(error_of([&] {
          train_repopt(config, out, {.from = (folder / "data").string()});
        }).find("is its hyper-search over?") != std::string::npos);
  CHECK(error_of([&] {
          train_repopt(config, out, {.from = (first / "last.safetensors").string()});
        }).find("has no scales") != std::string::npos);
  TrainConfig wider = config;
  wider.model["width_multiple"] = 0.3;
  CHECK(error_of([&] {
          train_repopt(wider, out, {.from = first.string()});
        }).find("the model's is") != std::string::npos);
  CHECK_FALSE(std::filesystem::exists(out));
  CHECK(error_of([&] { train(config, out, false); }).find("needs scales") != std::string::npos);

  // A run does not go on with scales that are not its own.
  SafeTensors other = load_safetensors(first / "scales.safetensors");
  other.tensors[0].second.f32()[0] += 0.5f;
  save_safetensors(first / "scales.safetensors", other);
  CHECK(error_of([&] { train_repopt(config, first, {.resume = true}); }).find("another 'scales'") !=
        std::string::npos);
}

TEST_CASE("the training section of a config") {
  Json json = repopt_json("data");
  CHECK(parse_train_config(json, "test", "").training.search_epochs == 2);
  json["training"].erase("search");
  CHECK(parse_train_config(json, "test", "").training.search_epochs == 3);
  // The resolved config reads back as itself.
  const Json resolved = parse_train_config(json, "test", "").json();
  CHECK(parse_train_config(resolved, "test", "").json() == resolved);
  json["model"]["training_mode"] = "repvgg";
  CHECK(error_of([&] { parse_train_config(json, "test", ""); }) ==
        "test: 'model.training_mode' is \"repvgg\"; leave it out, 'training.mode' \"repopt\" sets "
        "it");
  json["training"] = {{"mode", "plain"}};
  CHECK(parse_train_config(json, "test", "").json().at("training") == Json{{"mode", "plain"}});
  json["training"]["search"] = {{"epochs", 2}};
  CHECK(error_of([&] { parse_train_config(json, "test", ""); }) ==
        "test: 'training.search' goes with 'training.mode' \"repopt\"");
}
