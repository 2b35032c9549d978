// SPDX-License-Identifier: Apache-2.0
// Two models compared: the reasons one by one, and the command.
#include "api/small_detector.h"
#include "apps/cli/run_program.h"
#include "apps/commands/commands.h"
#include "apps/training/tiny_run.h"
#include "core/config.h"
#include "deploy/detect/box_changes.h"
#include "deploy/graph/file.h"

using namespace sextant;
using namespace sextant::apps;
using deploy::BoxChange;
using sextant::test::Contains;

namespace {

kernels::Detection box_at(float x, float width, int class_id) {
  return {x, 0, x + width, 10, 0.5f, class_id};
}

}  // namespace

TEST_CASE("what a box of one model is in another's sight") {
  const kernels::Detection a = box_at(100, 10, 1);
  const auto change = [&](const deploy::Sight& other) {
    return deploy::box_changes({a}, other).at(0);
  };
  CHECK(deploy::overlap(a, box_at(100, 10, 0)) == 1);
  CHECK(deploy::overlap(a, box_at(105, 10, 0)) == Approx(1.0 / 3));
  CHECK(deploy::overlap(a, box_at(110, 10, 0)) == 0);
  CHECK(deploy::overlap(box_at(1, 0, 0), box_at(1, 0, 0)) == 1);
  CHECK(deploy::overlap(box_at(1, 0, 0), box_at(2, 0, 0)) == 0);
  CHECK(change({}) == BoxChange::kGone);
  CHECK(change({.shown = {box_at(100.1f, 10, 1)}}) == BoxChange::kKept);
  CHECK(change({.shown = {box_at(102, 10, 1)}}) == BoxChange::kMoved);
  CHECK(change({.shown = {box_at(100, 10, 2)}}) == BoxChange::kClass);
  // Its own class goes before another.
  CHECK(change({.shown = {box_at(100, 10, 2), box_at(101, 10, 1)}}) == BoxChange::kMoved);
  CHECK(change({.shown = {box_at(107, 10, 1)}}) == BoxChange::kPlace);
  CHECK(change({.shown = {}, .weak = {box_at(101, 10, 1)}}) == BoxChange::kScore);
  CHECK(change({.shown = {}, .weak = {box_at(101, 10, 2)}}) == BoxChange::kGone);
  CHECK(change({.shown = {}, .weak = {}, .candidates = {box_at(101, 10, 1)}}) ==
        BoxChange::kSuppressed);
  CHECK(!deploy::is_lost(BoxChange::kMoved));
  CHECK(deploy::is_lost(BoxChange::kScore));
}

TEST_CASE("an observatory's three looks are those of detectors with its limits") {
  const deploy::Graph graph = test::small_detector();
  deploy::DetectorConfig config;
  config.image_size = test::kSize;
  config.precision = deploy::Precision::kInt8;
  config.nms.conf = 0.2f;
  deploy::Observatory observatory(graph, config);
  data::Image image = data::make_image(50, 40);
  const Tensor bytes = test::random_images({1, 40, 50, 3}, 12);
  std::copy_n(bytes.data<uint8_t>(), image.pixels.size(), image.pixels.begin());
  const deploy::Sight sight = observatory.look(image);
  REQUIRE(!sight.shown.empty());
  CHECK(sight.weak.size() > sight.shown.size());
  CHECK(sight.candidates.size() > sight.shown.size());
  const auto alone = deploy::Detector(graph, config).run(image);
  REQUIRE(alone.size() == sight.shown.size());
  for (size_t i = 0; i < alone.size(); ++i) CHECK(alone[i].score == sight.shown[i].score);
  for (const auto& d : sight.candidates) CHECK(d.score > 0.2f);
  const auto changes = deploy::box_changes(sight.shown, sight);
  CHECK(std::ranges::count(changes, BoxChange::kKept) == std::ssize(changes));
}

TEST_CASE("diff: the counts of a model against itself and against another") {
  const test::TemporaryFolder folder;
  test::make_shapes(folder / "data", 2, 3);
  const std::string data = (folder / "data").string(), a = (folder / "a.st").string(),
                    b = (folder / "b.st").string(), out = (folder / "out").string();
  deploy::Graph graph = test::small_detector();
  const auto names = data::open_dataset(data, "val").names;
  graph.class_names = {names[0], names[1], names[2]};
  Json classes = load_json(folder / "data" / "classes.json");
  classes["names"] = graph.class_names;
  write_atomically(folder / "data" / "classes.json", json_text(classes));
  for (const auto& file : std::filesystem::directory_iterator(folder / "data" / "labels" / "val"))
    write_atomically(file.path(), std::string_view("1 0.5 0.5 0.5 0.5\n"));
  deploy::save_deploy(a, graph);
  for (deploy::Node& n : graph.nodes)  // coarser weights
    for (float& s : n.weight_scale) s *= 6;
  deploy::save_deploy(b, graph);
  const auto diff = [&](const std::string& other, const std::string& folder_out) {
    Program program("test", "test");
    program.require_command();
    add_diff_command(program);
    return test::run_program(
        program, {"diff", a, other, "--data", data, "--conf", "0.3", "--out", folder_out});
  };
  REQUIRE(diff(a, out).code == 0);
  Json j = load_json(folder / "out" / "diff.json");
  const auto all = [&](const char* side, const char* change) {
    return j.at(side).at(change).at("all").get<int64_t>();
  };
  CHECK(j.at("images") == 3);
  CHECK(all("boxes_of_a", "kept") > 0);
  for (const std::string& change : names_of<BoxChange>())
    if (change != "kept") CHECK(all("boxes_of_a", change.c_str()) == 0);
  REQUIRE(diff(b, out).code == 0);  // its own folder
  j = load_json(folder / "out" / "diff.json");
  int64_t changed = 0;
  for (const std::string& change : names_of<BoxChange>())
    if (change != "kept") changed += all("boxes_of_a", change.c_str());
  CHECK(changed > 0);
  const std::string page = read_text(folder / "out" / "diff.html");
  CHECK(page.find("data:image/jpeg;base64,") != std::string::npos);
  CHECK(diff(b, data).code == 2);  // not among the data
  graph.class_names = {"x", "y", "z"};
  deploy::save_deploy(b, graph);
  CHECK_THAT(diff(b, out).error, Contains("have other classes"));
}
