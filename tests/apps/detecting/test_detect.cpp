// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <csignal>

#include "api/small_detector.h"
#include "apps/detecting/detect.h"
#include "apps/detecting/video.h"
#include "core/file.h"
#include "core/interrupt.h"
#include "core/json.h"
#include "core/parallel.h"

using namespace sextant;
using namespace sextant::apps;
using sextant::test::Contains;

namespace {

namespace fs = std::filesystem;

// Three noisy pictures, one of them broken, and a detector that finds many boxes in each.
struct Scene {
  test::TemporaryFolder folder;
  deploy::Graph graph = test::small_detector();
  deploy::DetectorConfig config;
  std::vector<Input> inputs;
  DetectOutputs outputs;

  Scene() {
    graph.class_names = {"cat", "dog, \"big\"", "a/b"};
    config.image_size = test::kSize;
    config.precision = deploy::Precision::kInt8;
    config.nms.conf = 0.05f;
    config.nms.max_det = 5;
    for (const int i : {0, 1}) data::save_png(shots() / fmt::format("p{}.png", i), noise(i));
    write_atomically(shots() / "broken.png", "not a picture");
    inputs = expand_inputs({shots().string()}, false);
    outputs.folder = (folder / "out").string();
  }
  fs::path shots() const { return folder / "shots"; }
  fs::path out(const std::string& name) const { return fs::path(outputs.folder) / name; }
  static data::Image noise(int seed) {
    data::Image image = data::make_image(50, 40);
    const Tensor bytes = test::random_images({1, 40, 50, 3}, static_cast<uint64_t>(seed) + 11);
    std::copy_n(bytes.data<uint8_t>(), image.pixels.size(), image.pixels.begin());
    return image;
  }
  DetectSummary run() { return detect(graph, config, "model.st", inputs, std::nullopt, outputs); }
};

int64_t lines_of(const fs::path& file) {
  const std::string text = read_text(file);
  return std::ranges::count(text, '\n');
}

}  // namespace

TEST_CASE("detect: every result format holds the detector's boxes") {
  Scene scene;
  scene.outputs.formats = {ResultFormat::kCoco, ResultFormat::kJsonLines, ResultFormat::kCsv,
                           ResultFormat::kYolo};
  scene.outputs.confidences = true;
  scene.outputs.crops = true;
  const DetectSummary found = scene.run();
  CHECK(found.pictures == 2);
  CHECK(found.broken == 1);
  REQUIRE(found.boxes > 0);

  const auto expected = deploy::Detector(scene.graph, scene.config).run(Scene::noise(1));
  const Json coco = Json::parse(read_text(scene.out("detections.json")));
  REQUIRE(std::ssize(coco) == found.boxes);
  std::vector<Json> second;
  for (const Json& row : coco)
    if (row["file_name"] == (scene.shots() / "p1.png").string()) second.push_back(row);
  REQUIRE(second.size() == expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    CHECK(second[i]["image_id"] == 2);  // the broken one has a number too
    CHECK(second[i]["category_id"] == expected[i].class_id);
    CHECK(second[i]["bbox"][0].get<float>() == expected[i].x1);
    CHECK(second[i]["score"].get<float>() == expected[i].score);
  }
  CHECK(lines_of(scene.out("detections.jsonl")) == 2);
  CHECK(lines_of(scene.out("detections.csv")) == found.boxes + 1);
  CHECK_THAT(read_text(scene.out("detections.csv")), Contains("file,frame,class,name,score"));
  CHECK(lines_of(scene.out("labels/p1.txt")) == std::ssize(expected));
  CHECK(std::ranges::count(read_text(scene.out("labels/p1.txt")), ' ') == 5 * std::ssize(expected));
  int64_t crops = 0;
  for (const auto& entry : fs::recursive_directory_iterator(scene.out("crops")))
    crops += entry.is_regular_file();
  CHECK(crops > 0);
  CHECK(crops <= found.boxes);

  // The pictures are those of the inputs, with boxes drawn in.
  data::Image drawn = data::load_image(scene.out("p1.png"));
  std::vector<data::LabelledBox> boxes;
  for (const auto& d : expected)
    boxes.push_back({{d.x1, d.y1, d.x2, d.y2},
                     d.class_id,
                     scene.graph.class_names[static_cast<size_t>(d.class_id)],
                     d.score});
  data::Image by_hand = Scene::noise(1);
  data::draw_detections(by_hand, boxes);
  CHECK(drawn.pixels == by_hand.pixels);
}

TEST_CASE("detect: the same from many pictures at a time as from one after the other") {
  Scene scene;
  for (int i = 2; i < 12; ++i)
    data::save_png(scene.shots() / fmt::format("p{}.png", i), Scene::noise(i));
  scene.inputs = expand_inputs({scene.shots().string()}, false);
  const int threads = num_threads();
  const auto with_threads = [&](int n, const std::string& name) {
    scene.outputs.folder = (scene.folder / name).string();
    set_num_threads(n);
    const DetectSummary found = scene.run();
    set_num_threads(threads);
    CHECK(found.times.at_a_time == n);
    CHECK(found.pictures == 12);
    CHECK(found.broken == 1);
    CHECK(found.times.images == 12);
    return fs::path(scene.outputs.folder);
  };
  const fs::path one = with_threads(1, "one"), three = with_threads(3, "three");
  REQUIRE(Json::parse(read_text(one / "detections.json")).size() > 12);
  for (const auto& file : fs::directory_iterator(one))
    CHECK(read_text(file.path()) == read_text(three / file.path().filename()));
}

TEST_CASE("detect: no file of the user is overwritten") {
  Scene scene;
  scene.outputs.folder = scene.shots().string();
  CHECK_THAT(test::error_of([&] { scene.run(); }), Contains("shots/") && Contains("overwritten"));
  CHECK(data::load_image(scene.shots() / "p0.png").pixels == Scene::noise(0).pixels);
  CHECK_FALSE(fs::exists(scene.shots() / "detections.json"));
}

TEST_CASE("detect: JPEG pictures, none at all, and no image that can be read") {
  Scene scene;
  scene.outputs.jpeg = true;
  scene.run();
  CHECK(fs::exists(scene.out("p0.jpg")));
  scene.outputs.folder = (scene.folder / "none").string();
  scene.outputs.pictures = false;
  scene.run();
  CHECK(std::distance(fs::directory_iterator(scene.outputs.folder), {}) == 1);
  scene.inputs = expand_inputs({(scene.shots() / "broken.png").string()}, false);
  CHECK_THAT(test::error_of([&] { scene.run(); }), Contains("none of the images could be read"));
}

TEST_CASE("detect: a video gives a video and a line for each frame") {
  if (!has_program("ffmpeg") || !has_program("ffprobe"))
    return test::skip("ffmpeg is not installed");
  Scene scene;
  const fs::path clip = scene.folder / "clip.mp4";
  {
    VideoWriter writer(clip, "10");
    for (int i = 0; i < 7; ++i) writer.write(Scene::noise(i));
    writer.finish();
  }
  scene.inputs = expand_inputs({clip.string()}, false);
  const DetectSummary found = scene.run();
  CHECK(found.pictures == 7);
  CHECK(lines_of(scene.out("detections.jsonl")) == 7);
  VideoReader reader(scene.out("clip.mp4").string());
  CHECK(reader.info().rate == "10/1");
  CHECK(reader.info().frames == 7);
  data::Image frame;
  int64_t frames = 0;
  while (reader.read(frame)) ++frames;
  CHECK(frames == 7);
  CHECK(frame.width == 50);
  CHECK(frame.height == 40);

  write_atomically(clip, "not a video");
  CHECK_THAT(test::error_of([&] { scene.run(); }), Contains("clip.mp4: ffmpeg cannot open it"));
}

TEST_CASE("detect: a signal ends it in good order") {
  Scene scene;
  catch_interrupts("test");
  std::string message;
  try {
    const InterruptScope scope;
    ::raise(SIGTERM);
    scene.run();
  } catch (const Interrupted& e) {
    message = e.what();
    CHECK(e.exit_code() == 143);
  }
  CHECK(message ==
        "interrupted (SIGTERM) after 0 pictures, whose boxes are in " + scene.outputs.folder);
  CHECK(Json::parse(read_text(scene.out("detections.json"))) == Json::array());
  CHECK_FALSE(fs::exists(scene.out("p0.png")));
  CHECK(scene.run().pictures == 2);
}
