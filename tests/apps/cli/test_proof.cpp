// SPDX-License-Identifier: Apache-2.0
// What commands write into a deploy file of itself, and what they take from it.
#include <set>
#include <sstream>

#include "api/small_detector.h"
#include "apps/cli/detect_options.h"
#include "apps/cli/run_program.h"
#include "apps/commands/commands.h"
#include "apps/training/tiny_run.h"
#include "deploy/engine/selftest.h"
#include "deploy/graph/file.h"

using namespace sextant;
using namespace sextant::apps;
using sextant::test::Contains;

namespace {

test::Outcome run_proof_command(std::vector<std::string> words) {
  Program program("test", "test");
  program.require_command();
  add_eval_command(program);
  add_quantize_command(program);
  add_detect_command(program);
  add_info_command(program);
  return test::run_program(program, std::move(words));
}

}  // namespace

TEST_CASE("a file carries its mAP, thresholds and integers from command to command") {
  const test::TemporaryFolder folder;
  test::make_shapes(folder / "data", 6, 4);
  const std::string data = (folder / "data").string(), model = (folder / "m.st").string(),
                    images = (folder / "data" / "images" / "val").string();
  deploy::Graph graph = test::small_detector();
  graph.class_names = data::open_dataset(data, "val").names;
  graph.class_names.resize(3);
  for (const char* list : {"train", "val"}) {  // three of the classes, as the model has
    for (const auto& file : std::filesystem::directory_iterator(folder / "data" / "labels" / list))
      write_atomically(file.path(), std::string_view("0 0.5 0.5 0.5 0.5\n2 0.3 0.3 0.4 0.4\n"));
  }
  Json classes = load_json(folder / "data" / "classes.json");
  classes["names"] = graph.class_names;
  write_atomically(folder / "data" / "classes.json", json_text(classes));
  deploy::save_deploy(model, graph);

  const auto detect = [&](const std::string& conf) {
    return run_proof_command({"detect", model, images, "--out", (folder / "found").string(),
                              "--no-pictures", "--conf", conf});
  };
  test::Outcome o = detect("best");
  CHECK(o.code == 2);
  CHECK_THAT(o.error, Contains("--conf best: " + model + " has no thresholds") &&
                          Contains("`sextant eval --record`"));
  CHECK(detect("1.5").code == 2);
  CHECK(detect("bast").code == 2);
  o = run_proof_command({"detect", model, "--selftest"});
  CHECK_THAT(o.error, Contains(model + ": has no golden integers"));
  CHECK(run_proof_command({"detect", model}).error.find("INPUTS is required") != std::string::npos);

  o = run_proof_command({"eval", model, "--data", data, "--conf", "0.001", "--record"});
  CHECK(o.code == 2);
  CHECK_THAT(o.error, Contains("--record: the best F1 is 0, there is no threshold to record"));
  CHECK_FALSE(deploy::load_deploy(model).proof.measured);
  // Labels that the model finds: the first box that it sees and that is one in each image.
  const std::string found = (folder / "boxes").string();
  REQUIRE(run_proof_command({"detect", model, images, "--out", found, "--no-pictures", "--save-txt",
                             "--conf", "0.001"})
              .code == 0);
  for (const auto& file : std::filesystem::directory_iterator(folder / "boxes" / "labels")) {
    std::istringstream boxes(read_text(file.path()));
    std::string box;
    double category = 0, x = 0, y = 0, w = 0, h = 0;
    while (std::getline(boxes, box) && (w <= 0 || h <= 0))
      std::istringstream(box) >> category >> x >> y >> w >> h;
    REQUIRE((w > 0 && h > 0));
    write_atomically(folder / "data" / "labels" / "val" / file.path().filename(),
                     fmt::format("{:.0f} {} {} {} {}\n", category, x, y, w, h));
  }
  o = run_proof_command({"eval", model, "--data", data, "--conf", "0.001", "--record"});
  CHECK(o.error.empty());
  REQUIRE(o.code == 0);
  deploy::Graph known = deploy::load_deploy(model);
  REQUIRE(known.proof.measured);
  CHECK(known.proof.measured->class_confidence.size() == 3);
  CHECK(known.proof.measured->data == "data (val, 4 images)");
  deploy::selftest(known, Device::kCpu);
  CHECK(run_proof_command({"detect", model, "--selftest"}).code == 0);
  CHECK(run_proof_command({"detect", model, images, "--selftest"}).code == 2);

  // The thresholds decide what is kept.
  const auto scores = [&](const std::string& conf) {
    REQUIRE(detect(conf).code == 0);
    std::vector<std::pair<int, double>> all;
    for (const Json& row : load_json(folder / "found" / "detections.json"))
      all.emplace_back(row.at("category_id").get<int>(), row.at("score").get<double>());
    return all;
  };
  const auto every = scores("0.001");
  deploy::Proof proof = known.proof;
  proof.measured->confidence = every[every.size() / 2].second;
  proof.measured->class_confidence = {0.001, 1.0, proof.measured->confidence};
  deploy::replace_proof(model, proof);
  const auto best = scores("best"), by_class = scores("best-per-class");
  CHECK(best.size() < every.size());
  REQUIRE(!best.empty());
  for (const auto& [c, score] : best) CHECK(score >= proof.measured->confidence - 1e-6);
  std::set<int> seen;
  for (const auto& [c, score] : by_class) {
    seen.insert(c);
    CHECK(score >= proof.measured->class_confidence[static_cast<size_t>(c)] - 1e-6);
  }
  CHECK(!seen.contains(1));
  CHECK(by_class != best);

  // quantize says what it calibrated on; a checkpoint has no place for figures.
  TrainConfig config = test::tiny_config(folder / "data");
  config.epochs = 1;
  train(config, folder / "run", false);
  const std::string checkpoint = (folder / "run" / "last.safetensors").string(),
                    int8 = (folder / "int8.st").string();
  REQUIRE(
      run_proof_command({"quantize", checkpoint, "--data", data, "--out", int8, "--images", "3"})
          .code == 0);
  known = deploy::load_deploy(int8);
  CHECK(known.proof.calibration->images == 3);
  CHECK(known.proof.calibration->data == "data (train, 6 images)");
  CHECK(run_proof_command({"detect", int8, "--selftest"}).code == 0);
  o = run_proof_command({"eval", checkpoint, "--data", data, "--record"});
  CHECK(o.code == 2);
  CHECK_THAT(o.error, Contains("--record: " + checkpoint + " is a checkpoint"));
}
