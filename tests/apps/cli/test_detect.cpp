// `detect` on images of which some are broken, and when it is interrupted.
#include "apps/cli/detect_options.h"

#include <csignal>
#include <set>

#include "apps/model_files/checkpoint.h"
#include "core/config.h"
#include "core/file.h"
#include "core/interrupt.h"
#include "data/image/image.h"
#include "support/support.h"

namespace {

using namespace sextant;
using namespace sextant::apps;
using Catch::Matchers::Contains;
using test::error_of;

namespace fs = std::filesystem;

struct Setup {
  test::TemporaryFolder folder;
  DetectOptions options;

  Setup() {
    for (const char* name : {"a.png", "b.png", "c.png"})
      data::save_png(folder / "in" / name, data::make_image(64, 48, 90));
    options.model = (folder / "model").string();
    options.inputs = {(folder / "in").string()};
    options.out = (folder / "out").string();
    options.image_size.value = 64;
    options.conf = 0;
    options.max_det = 5;
  }
  void run() const {
    run_detect(options, [](const std::string&) {
      const Json json = {{"width_multiple", 0.05}, {"depth_multiple", 0.1}};
      Yolov6 model(read_yolov6_config(ConfigReader(json, "test", "model."), 2), 1);
      CheckpointInfo info;
      info.class_names = {"a", "b"};
      info.image_size = 64;
      return to_graph(model, info);
    });
  }
  // The images that detections.json has boxes of.
  std::set<std::string> found() const {
    std::set<std::string> names;
    for (const Json& row : load_json(folder / "out/detections.json"))
      names.insert(row.at("file_name"));
    return names;
  }
};

}  // namespace

TEST_CASE("detect: a broken image is named, the others are done") {
  const Setup s;
  write_atomically(s.folder / "in/b.png", std::string_view("\x89PNG\r\n\x1a\nno more"));
  CHECK(error_of([&] { s.run(); }) == "1 of 3 images could not be read");
  CHECK(s.found() == std::set<std::string>{"a.png", "c.png"});
}

TEST_CASE("detect: a signal ends it after the image at hand, with what it has found") {
  const Setup s;
  catch_interrupts("test");
  std::string said;
  try {
    const InterruptScope scope;
    ::raise(SIGTERM);
    s.run();
  } catch (const Interrupted& e) {
    said = e.what();
    CHECK(e.exit_code() == 143);
  }
  CHECK(said == "interrupted (SIGTERM) after 1 of 3 images, whose boxes are in " + s.options.out);
  CHECK(s.found() == std::set<std::string>{"a.png"});
  CHECK(fs::exists(s.folder / "out/a.png"));
  CHECK_FALSE(fs::exists(s.folder / "out/b.png"));
}
