// SPDX-License-Identifier: Apache-2.0
// Ranges as JSON, read and edited; ranges of weights.
#include <cmath>

#include "quant/net.h"
#include "quant/ranges/range_file.h"
#include "quant/ranges/weight_ranges.h"

using namespace sextant;
using namespace sextant::quant;

TEST_CASE("ranges survive JSON, and an edit changes the whole group") {
  const deploy::Graph g =
      quantize(test::QuantNet().graph(), test::source_of({test::random_images(2, 1)}), {});
  const Json json = ranges_to_json(g);
  CHECK(json.at("tensors").size() == g.tensors.size());
  deploy::Graph same = g;
  CHECK(apply_ranges(same, Json::parse(json.dump()), "r.json") == 0);
  for (size_t t = 0; t < g.tensors.size(); ++t) CHECK(same.tensors[t].amax == g.tensors[t].amax);

  deploy::Graph edited = g;
  CHECK(apply_ranges(edited, Json{{"tensors", {{"concat_0", 2.5}}}}, "r.json") == 4);
  for (const deploy::TensorInfo& t : edited.tensors) {
    const int group = g.tensors[static_cast<size_t>(g.find_tensor("concat_0"))].group;
    if (t.group == group) CHECK(t.amax == 2.5f);
  }
}

TEST_CASE("invalid edits of ranges are refused") {
  deploy::Graph g =
      quantize(test::QuantNet().graph(), test::source_of({test::random_images(2, 1)}), {});
  g.tensors[static_cast<size_t>(g.output)].amax = 0.0f;  // as a head's outputs are
  const std::string last = g.tensors[static_cast<size_t>(g.output)].name;
  const auto refused = [&](const Json& json) {
    deploy::Graph copy = g;
    const std::string message = test::error_of([&] { apply_ranges(copy, json, "r.json"); });
    for (size_t t = 0; t < g.tensors.size(); ++t) CHECK(copy.tensors[t].amax == g.tensors[t].amax);
    return message;
  };
  const auto one = [](const std::string& name, const Json& value) {
    return Json{{"tensors", {{name, value}}}};
  };
  CHECK(refused(one("concat_1", 1.0)) == "r.json: no tensor 'concat_1'; nearest is 'concat_0'");
  CHECK(refused(one("concat_0", 0.0)) ==
        "r.json: amax of tensor 'concat_0' is 0.0, must be positive and finite");
  CHECK(refused(one("concat_0", -1)).find("must be positive") != std::string::npos);
  CHECK(refused(one("concat_0", 1e39)).find("must be positive and finite") != std::string::npos);
  CHECK(refused(one("concat_0", "wide")) ==
        "r.json: amax of tensor 'concat_0' must be a number, not \"wide\"");
  CHECK(refused(one("images", 2.0)) == "r.json: the range of 'images', the image, is fixed at 1");
  CHECK(refused(one(last, 2.0)) == "r.json: tensor '" + last + "' is in float and has no range");
  Json two = one("concat_0", 2.0);
  two["tensors"]["max_pool_0"] = 3.0;
  CHECK(refused(two).starts_with(
      "r.json: tensors 'concat_0' and 'max_pool_0' share one range (group "));
  CHECK(refused(one("concat_0", {{"amax", 1.0}, {"unsigned", true}}))
            .find("only amax can be edited") != std::string::npos);
  CHECK(refused(one("concat_0", {{"amix", 1.0}})) == "r.json: 'tensors.concat_0.amax' is missing");
  CHECK(refused(Json::array()) == "r.json: needs an object 'tensors'");
  CHECK(refused({{"tensors", Json::object()}, {"scales", 1}}).find("unknown key 'scales'") !=
        std::string::npos);
}

TEST_CASE("ranges of weights: the largest value, or the least squared error") {
  Rng rng(5);
  Tensor w({3, 2, 2, 64});
  for (float& v : w.span<float>()) v = static_cast<float>(rng.normal());
  w.f32()[7] = 12.0f;  // an outlier in channel 0
  for (int64_t i = 512; i < 768; ++i) w.f32()[i] = 0.0f;
  const auto error = [&](float scale) {
    double sum = 0;
    for (int64_t i = 0; i < 256; ++i) {
      const double x = w.f32()[i];
      const double q = std::clamp(std::nearbyint(x / scale), -127.0, 127.0) * scale;
      sum += (x - q) * (x - q);
    }
    return sum;
  };
  const std::vector<float> full = choose_weight_scales(w, {});
  const std::vector<float> mse = choose_weight_scales(w, {.method = WeightMethod::kMse});
  CHECK(full[0] == 12.0f / 127.0f);
  CHECK(full[2] == 1.0f);
  CHECK(mse[2] == 1.0f);
  CHECK(mse[1] <= full[1]);
  double least = error(full[0]);
  for (int k = 1; k <= 60; ++k)
    least = std::min(least, error(full[0] * static_cast<float>(100 - k) / 100.0f));
  CHECK(error(mse[0]) == Approx(least).epsilon(1e-4));
  CHECK(choose_weight_scales(w, {.per_tensor = true}) == std::vector<float>(3, full[0]));
}
