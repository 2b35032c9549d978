// SPDX-License-Identifier: Apache-2.0
// Every shared fixture of post/, data/ and optim/ is claimed by a test that names it.
#include <algorithm>
#include <array>

#include "core/file.h"
#include "support/fixtures.h"

using namespace sextant;

namespace {

// Fixtures whose name begins with `prefix` are read by `test`, which holds that name in quotes.
struct Claim {
  const char* prefix;
  const char* test;
};
constexpr std::array<Claim, 17> kClaims{{
    {"post/ap_per_class_", "data/metrics/test_detection_metrics.cpp"},
    {"post/letterbox_geometry", "data/image/test_letterbox.cpp"},
    {"post/letterbox_image", "data/image/test_letterbox.cpp"},
    {"post/nms_", "kernels/detection/test_nms.cpp"},
    {"post/process_batch", "data/metrics/test_detection_metrics.cpp"},
    {"post/rescale_boxes", "data/image/test_letterbox.cpp"},
    {"data/box_candidates", "data/augment/test_augment.cpp"},
    {"data/hsv", "data/augment/test_augment_hsv.cpp"},
    {"data/load_image", "data/image/test_letterbox.cpp"},
    {"data/mixup", "data/augment/test_augment.cpp"},
    {"data/mosaic", "data/augment/test_augment.cpp"},
    {"data/random_affine", "data/augment/test_augment.cpp"},
    {"optim/adamw", "optim/test_optimizers.cpp"},
    {"optim/ema_float", "optim/test_ema.cpp"},
    {"optim/schedule_", "optim/test_schedule.cpp"},
    {"optim/yolov6_sgd", "optim/test_optimizers.cpp"},
    {"optim/yolov6_adam", "optim/test_optimizers.cpp"},
}};
// Of the RepOptimizer, beside the engine's own optimizers.
constexpr std::array<const char*, 2> kElsewhere{"optim/repvgg_optimizer_", "optim/repoptimizers_"};

}  // namespace

TEST_CASE("each fixture of post, data and optim has a test that reads it") {
  std::vector<std::string> names;
  for (const char* folder : {"post/", "data/", "optim/"})
    std::ranges::copy(test::fixture_names(folder), std::back_inserter(names));
  for (const std::string& name : names) {
    const auto begins = [&](const auto& claim) { return name.starts_with(claim); };
    if (std::ranges::any_of(kElsewhere, begins)) continue;
    INFO(name << " is claimed by no test");
    const auto claim =
        std::ranges::find_if(kClaims, [&](const Claim& c) { return name.starts_with(c.prefix); });
    REQUIRE(claim != kClaims.end());
  }
}

TEST_CASE("each test that claims fixtures names them") {
  for (const Claim& c : kClaims) {
    INFO(c.test << " does not name " << c.prefix);
    const auto source = std::filesystem::path(SEXTANT_SOURCE_DIR) / "tests" / c.test;
    CHECK(read_text(source).find("\"" + std::string(c.prefix)) != std::string::npos);
  }
}
