// SPDX-License-Identifier: Apache-2.0
// The table of convolution choices, and its keys.
#include "kernels/conv_choice.h"
#include "support/support.h"

namespace sextant::test {
namespace {

using namespace kernels;

TEST_CASE("convolutions that are measured separately have different keys") {
  float f = 0;
  ConvForward p;
  p.shape = {1, 80, 80, 32, 64, 3, 3, 2, 1, 1};
  p.dtype = DType::kF16;
  CHECK(conv_key(p) ==
        fmt::format("forward {} 1x80x80x32 -> 64 3x3 stride 2 pad 1", name_of(p.dtype)));
  std::vector<std::string> keys = {conv_key(p)};
  const auto add = [&](ConvForward q) { keys.push_back(conv_key(q)); };
  auto q = p;
  q.bias = &f;
  add(q);
  q.epilogue.activation = Activation::kReLU;
  add(q);
  q.residual = &f;
  add(q);
  q.epilogue.residual_before_activation = true;
  add(q);
  q.epilogue.residual_scale = 0.5f;
  add(q);
  q.residual_pitch = 128;
  add(q);
  q = p;
  q.x_pitch = 64;
  add(q);
  q.x_pitch = 32;  // dense
  CHECK(conv_key(q) == conv_key(p));
  q = p;
  q.accumulate = true;
  add(q);
  q = p;
  q.shape.groups = 2;
  add(q);
  q = p;
  q.dtype = DType::kF32;
  add(q);
  q.precision = ConvPrecision::kFma;
  add(q);
  ConvBackwardData d;
  d.shape = p.shape;
  ConvBackwardWeight w;
  w.shape = p.shape;
  ConvInt8Forward i;
  i.shape = p.shape;
  keys.insert(keys.end(), {conv_key(d), conv_key(w), conv_key(i)});
  i.residual = &f;
  keys.push_back(conv_key(i));
  i.epilogue.residual_before_activation = true;
  keys.push_back(conv_key(i));
  i.epilogue.residual_scale = 0.5f;
  keys.push_back(conv_key(i));
  i.y_type = DType::kF32;
  keys.push_back(conv_key(i));
  std::ranges::sort(keys);
  CHECK(std::ranges::adjacent_find(keys) == keys.end());
}

TEST_CASE("the table of choices survives JSON; malformed tables are refused by name") {
  ConvChoices choices;
  choices.set("a", {true, 12.5, 8.0, ""});
  choices.set("b", {false, 3.0, 0, "cuDNN has no plan for it"});
  const Json j = choices.to_json();
  const ConvChoices again = ConvChoices::from_json(j, "choices.json");
  CHECK(again.size() == 2);
  REQUIRE(again.find("a"));
  CHECK(again.find("a")->library);
  CHECK(again.find("a")->library_us == 8.0);
  CHECK(again.find("b")->note == "cuDNN has no plan for it");
  CHECK(again.find("c") == nullptr);
  CHECK(again.to_json() == j);

  const auto refused = [](const char* text) {
    CHECK_THROWS_WITH(ConvChoices::from_json(Json::parse(text), "choices.json"),
                      Contains("choices.json"));
  };
  refused("[]");
  refused(R"({"a": 1})");
  refused(R"({"a": {"library": 1, "ours_us": 1, "library_us": 1}})");
  refused(R"({"a": {"library": true, "ours_us": "1", "library_us": 1}})");
}

}  // namespace
}  // namespace sextant::test
