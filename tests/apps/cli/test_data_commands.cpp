// SPDX-License-Identifier: Apache-2.0
// The commands that look at data sets.
#include <algorithm>

#include "apps/cli/run_program.h"
#include "apps/commands/commands.h"
#include "apps/reporting/label_statistics.h"
#include "apps/training/tiny_run.h"
#include "apps/training/trainer.h"
#include "core/config.h"

using namespace sextant;
using namespace sextant::apps;

namespace {

test::Outcome run_data_command(std::vector<std::string> words) {
  Program program("test", "test");
  program.require_command();
  add_data_command(program);
  add_audit_command(program);
  return test::run_program(program, std::move(words));
}

}  // namespace

TEST_CASE("data check ends with 2 where a label is wrong, data stats counts what is there") {
  const test::TemporaryFolder folder;
  test::make_shapes(folder / "data");
  const std::string data = (folder / "data").string(), page = (folder / "page.html").string();
  CHECK(run_data_command({"data", "check", data}).code == 0);
  CHECK(run_data_command({"data", "stats", data, "--out", page}).code == 0);
  const std::string html = read_text(page);
  CHECK(html.find("Split train") != std::string::npos);
  CHECK(html.find("data:image/png;base64,") != std::string::npos);

  data::Dataset split = data::open_dataset(data, "train");
  const LabelStatistics s = label_statistics(split);
  CHECK(s.images == 10);
  CHECK(s.boxes == split.boxes());
  CHECK(s.small + s.medium + s.large == s.boxes);
  int64_t of_classes = 0, of_bins = 0;
  double centres = 0;
  for (const auto& c : s.classes) of_classes += c.boxes;
  for (const auto& b : s.per_image) of_bins += b.images;
  for (const double n : s.centres) centres += n;
  CHECK(of_classes == s.boxes);
  CHECK(of_bins == s.images);
  CHECK(centres == static_cast<double>(s.boxes));
  split.samples[0].labels[0].crowd = true;
  CHECK(label_statistics(split).boxes == s.boxes - 1);
  CHECK(label_statistics(split).crowds == 1);

  // The labels say where they are from.
  const data::Sample& first = split.samples[0];
  CHECK(first.label_file.ends_with(".txt"));
  CHECK(first.labels[0].line == 1);
  write_atomically(first.label_file, "0 0.5 0.5 0.2 0.2\n9 0.5 0.5 0.1 0.1\n");
  const test::Outcome bad = run_data_command({"data", "check", data});
  CHECK(bad.code == 2);
  CHECK(bad.error.find("1 mistake in labels and images") != std::string::npos);
  CHECK(run_data_command({"data", "check", data, "--split", "val"}).code == 0);
  CHECK(run_data_command({"data", "check", data, "--out", page}).code == 2);
}

TEST_CASE("audit writes a page and a ranking with the lines of the labels") {
  const test::TemporaryFolder folder;
  test::make_shapes(folder / "data");
  TrainConfig config = test::tiny_config(folder / "data");
  config.epochs = 1;
  train(config, folder / "run", false);
  const std::string page = (folder / "page.html").string(),
                    json = (folder / "ranking.json").string();
  const test::Outcome o =
      run_data_command({"audit", (folder / "run" / "last.safetensors").string(), "--data",
                        (folder / "data").string(), "--out", page, "--json", json, "--top", "5"});
  CHECK(o.error.empty());
  REQUIRE(o.code == 0);
  const Json ranking = load_json(json);
  const auto labels = static_cast<size_t>(data::open_dataset(folder / "data", "train").boxes());
  REQUIRE(ranking.size() >= labels);
  size_t with_line = 0;
  for (size_t i = 0; i < ranking.size(); ++i) {
    with_line += ranking[i].contains("line") && ranking[i].at("line").get<int64_t>() > 0;
    if (i > 0) CHECK(ranking[i - 1].at("suspicion") >= ranking[i].at("suspicion"));
  }
  CHECK(with_line == labels);
  const std::string html = read_text(page);
  CHECK(html.find("data:image/jpeg;base64,") != std::string::npos);
  CHECK(html.find(".txt:") != std::string::npos);
}

TEST_CASE("data check goes on behind a split that cannot be used, and names a broken image once") {
  const test::TemporaryFolder folder;
  test::make_shapes(folder / "data");
  const std::string data = (folder / "data").string();
  const data::Dataset train = data::open_dataset(data, "train");
  // Long enough to have a header, too short to have all pixels.
  const std::filesystem::path image = train.samples[1].image;
  std::filesystem::resize_file(image, std::filesystem::file_size(image) / 2);
  std::filesystem::rename(folder / "data/images/val", folder / "elsewhere");
  std::filesystem::create_directory(folder / "data/images/val");
  const test::Outcome checked = run_data_command({"data", "check", data});
  CHECK(checked.code == 2);
  CHECK(checked.error.find("2 mistakes in labels and images") != std::string::npos);
  // The list on stdout names it; no notice beside.
  CHECK(checked.error.find(image.filename().string()) == std::string::npos);
}

TEST_CASE("data and audit refuse options that have no effect, and outputs that cannot be written") {
  const test::TemporaryFolder folder;
  test::make_shapes(folder / "data");
  const std::string data = (folder / "data").string();
  const auto refusal = [&](std::vector<std::string> words) {
    const test::Outcome o = run_data_command(std::move(words));
    CHECK(o.code == 2);
    return o.error;
  };
  CHECK(refusal({"data", "check", data, "--to", "voc"}).find("--to: has no effect with check") !=
        std::string::npos);
  CHECK(refusal({"data", "stats", data, "--val", "0.3"}).find("--val: has no effect with stats") !=
        std::string::npos);
  CHECK(refusal({"audit", "m", "--data", data, "--top", "5"}).find("--top") != std::string::npos);
  write_atomically(folder / "file", "x");
  CHECK(refusal({"data", "stats", data, "--out", (folder / "file/page.html").string()})
            .find("file is not a folder") != std::string::npos);
}
