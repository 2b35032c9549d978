// SPDX-License-Identifier: Apache-2.0
#include <map>

#include "core/config.h"
#include "optim/param_groups.h"
#include "support/fixtures.h"

using namespace sextant;
using namespace sextant::optim;

TEST_CASE("the kind of a parameter follows from its official name") {
  const std::map<std::string, ParameterKind> expected = {
      {"backbone.stem.rbr_dense.conv.weight", ParameterKind::kWeight},
      {"backbone.stem.rbr_dense.bn.weight", ParameterKind::kBnWeight},
      {"backbone.stem.rbr_dense.bn.bias", ParameterKind::kBias},
      {"backbone.ERBlock_2.1.conv1.rbr_identity.weight", ParameterKind::kBnWeight},
      {"backbone.ERBlock_2.1.conv1.rbr_identity.bias", ParameterKind::kBias},
      {"backbone.ERBlock_2.1.conv1.rbr_identity.running_var", ParameterKind::kFrozen},
      {"backbone.stem.bn.num_batches_tracked", ParameterKind::kFrozen},
      {"backbone.ERBlock_2.1.conv1.scale_conv.weight", ParameterKind::kWeight},
      {"neck.upsample0.upsample_transpose.weight", ParameterKind::kWeight},
      {"neck.upsample0.upsample_transpose.bias", ParameterKind::kBias},
      {"neck.Rep_p4.m.conv1.alpha", ParameterKind::kFrozen},
      {"detect.cls_preds.0.weight", ParameterKind::kWeight},
      {"detect.cls_preds.0.bias", ParameterKind::kBias},
      {"detect.proj", ParameterKind::kFrozen},
      {"detect.proj_conv.weight", ParameterKind::kFrozen},
      {"weight", ParameterKind::kWeight},
  };
  for (const auto& [name, kind] : expected) {
    INFO(name);
    CHECK(parameter_kind(name) == kind);
  }
}

TEST_CASE("kinds agree with the groups of the official optimizer") {
  SEXTANT_REQUIRE_FIXTURE(f, "optim/yolov6_sgd");
  const Json groups = Json::parse(f.meta("param_groups"));
  REQUIRE(groups.size() == kGroups);
  size_t grouped = 0;
  for (size_t g = 0; g < kGroups; ++g) {
    CHECK_FALSE(groups[g].empty());
    for (const std::string name : groups[g]) {
      INFO(name);
      CHECK(static_cast<size_t>(parameter_kind(name)) == g);
      ++grouped;
    }
  }
  const Json others = Json::parse(f.meta("not_in_any_group"));
  CHECK(grouped + others.size() == test::parts_of_names(f, "input.param.", "").size());
  for (const std::string name : others) {
    INFO(name);
    CHECK(parameter_kind(name) == ParameterKind::kFrozen);
  }
}

TEST_CASE("kinds agree with the state dicts of whole models") {
  const std::map<std::string, ParameterKind> kinds = {
      {"conv.weight", ParameterKind::kWeight},    {"convT.weight", ParameterKind::kWeight},
      {"conv.bias", ParameterKind::kBias},        {"cls_preds.bias", ParameterKind::kBias},
      {"reg_preds.bias", ParameterKind::kBias},   {"bn.weight", ParameterKind::kBnWeight},
      {"bn.bias", ParameterKind::kBias},          {"bn.running_mean", ParameterKind::kFrozen},
      {"bn.running_var", ParameterKind::kFrozen}, {"scale.weight", ParameterKind::kWeight},
      {"alpha", ParameterKind::kFrozen},          {"keep", ParameterKind::kFrozen},
  };
  std::vector<std::filesystem::path> paths = test::shared_files("fixtures/models", ".json");
  for (const auto& path : test::shared_files("fixtures_lite/models", ".json"))
    paths.push_back(path);
  for (const auto& path : paths) {
    if (path.stem() == "summary") continue;
    const Json json = load_json(path);
    const Json& entries = json.at("state_dict");
    REQUIRE_FALSE(entries.empty());
    for (const Json& entry : entries) {
      const std::string name = entry.at("name");
      const std::string kind = entry.at("kind");
      INFO(path << ": " << name << " (" << kind << ")");
      REQUIRE(kinds.contains(kind));
      CHECK(parameter_kind(name) == kinds.at(kind));
    }
  }
}

TEST_CASE("weight decay and learning rate follow the batch") {
  CHECK(accumulation(64) == 1);
  CHECK(accumulation(32) == 2);
  CHECK(accumulation(16) == 4);
  CHECK(accumulation(128) == 1);  // 0.5 to even is 0, at least 1
  CHECK(accumulation(43) == 1);
  CHECK(accumulation(24) == 3);
  CHECK(accumulation(1) == 64);
  CHECK(scaled_weight_decay(0.0005, 16) == Approx(0.0005));
  CHECK(scaled_weight_decay(0.0005, 128) == Approx(0.001));
  CHECK(scaled_weight_decay(0.0005, 24) == Approx(0.0005 * 72 / 64));
  CHECK(test::error_of([] { accumulation(0); }) ==
        "accumulation: batch 0 and nominal batch 64 must be > 0");
}
