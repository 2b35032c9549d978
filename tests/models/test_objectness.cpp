// SPDX-License-Identifier: Apache-2.0
// The head's objectness: its parameters, its gradients, what it does to predictions and the loss.
#include <cmath>

#include "core/parallel.h"
#include "kernels/backend.h"
#include "models/import/recognise.h"
#include "models/loss/loss_sample.h"
#include "models/yolov6.h"
#include "support/gradcheck.h"
#include "support/support.h"

using namespace sextant;
using namespace sextant::test;

namespace {

HeadConfig head_config(int64_t reg_max = 0) {
  HeadConfig c;
  c.in_channels = {6, 9};
  c.num_classes = 3;
  c.reg_max = reg_max;
  c.strides = {8, 16};
  c.objectness = true;
  return c;
}

std::vector<Tensor> random_features(uint64_t seed) {
  return {random_tensor({2, 4, 3, 6}, seed), random_tensor({2, 2, 2, 9}, seed + 1)};
}

HeadOutput forward(const EffiDeHead& head, const std::vector<Variable>& features) {
  return head.forward(features);
}

Yolov6Config small_config(Json json) {
  json["width_multiple"] = 0.05;
  json["depth_multiple"] = 0.1;
  return read_yolov6_config(ConfigReader(json, "c.json", "model."), 3);
}

}  // namespace

TEST_CASE("objectness: one map per level, with the class predictions' prior and no other change") {
  Rng rng(1), same(1);
  HeadConfig without = head_config();
  without.objectness = false;
  const EffiDeHead head(head_config(), rng), plain(without, same);
  CHECK(head.parameters().size() == plain.parameters().size() + 4);
  for (const ParameterRef& p : head.parameters()) {
    if (p.name.find("obj_preds") == std::string::npos) continue;
    CAPTURE(p.name);
    const bool weight = p.name.ends_with("weight");
    const int64_t channels = p.name.starts_with("obj_preds.0.") ? 6 : 9;
    CHECK(p.variable.shape() == (weight ? Shape{1, 1, 1, channels} : Shape{1}));
    for (const float v : p.variable.data().span<float>())
      CHECK(v == (weight ? 0.0f : -std::log(99.0f)));
  }
  const std::vector<Tensor> x = random_features(2);
  const HeadOutput out = forward(head, {Variable(x[0]), Variable(x[1])});
  REQUIRE(out.objectness.size() == 2);
  CHECK(out.objectness[0].shape() == Shape{2, 4, 3, 1});
  CHECK(out.objectness[1].shape() == Shape{2, 2, 2, 1});
  CHECK(forward(plain, {Variable(x[0]), Variable(x[1])}).objectness.empty());
  const Tensor rows = head.decode(out).data();
  for (int64_t i = 0; i < rows.numel() / 8; ++i)
    CHECK(rows.f32()[8 * i + 4] == Approx(0.01).epsilon(1e-5));
}

TEST_CASE("gradients flow through the objectness of the decoded rows") {
  const int64_t reg_max = GENERATE(0, 5);
  Rng rng(3);
  EffiDeHead head(head_config(reg_max), rng);
  head.train(false);
  // maps of their own, so that each is checked apart
  const int64_t channels = 4 * (reg_max + 1);
  const std::vector<Tensor> maps = {
      random_tensor({2, 4, 3, 3}, 4),        random_tensor({2, 2, 2, 3}, 5),
      random_tensor({2, 4, 3, channels}, 6), random_tensor({2, 2, 2, channels}, 7),
      random_tensor({2, 4, 3, 1}, 8),        random_tensor({2, 2, 2, 1}, 9)};
  const auto decode = [&](const std::vector<Variable>& v) {
    HeadOutput out;
    out.cls_logits = {v[0], v[1]};
    out.reg = {v[2], v[3]};
    out.objectness = {v[4], v[5]};
    return head.decode(out);
  };
  CHECK(gradcheck(decode, maps) < 2e-3);
  // the row's fifth number, and what suppression makes of it
  const std::vector<Variable> v(maps.begin(), maps.end());
  const Tensor rows = decode(v).data();
  const float o = 1 / (1 + std::exp(-maps[4].f32()[7])), c = 1 / (1 + std::exp(-maps[0].f32()[22]));
  const float* row = rows.f32() + 7 * 8;
  CHECK(row[4] == Approx(o).epsilon(1e-5));
  CHECK(row[6] == Approx(c).epsilon(1e-5));
  std::vector<kernels::Detection> found(3);
  int32_t count = 0;
  kernels::backend(Device::kCpu)
      .non_max_suppression(
          {.predictions = row,
           .batch = 1,
           .anchors = 1,
           .classes = 3,
           .options = {.conf = 0.0f, .iou = 1.0, .multi_label = true, .max_det = 3},
           .out = found.data(),
           .count = &count});
  REQUIRE(count == 3);
  const auto second = std::ranges::find(found, 1, &kernels::Detection::class_id);
  REQUIRE(second != found.end());
  CHECK(second->score == Approx(o * c).epsilon(1e-5));
}

TEST_CASE("objectness trains through the box branch") {
  const Assigner assigner = GENERATE(Assigner::kTaskAligned, Assigner::kSimOta);
  Yolov6Config config = small_config({{"objectness", true}});
  config.num_classes = 4;
  Yolov6 model(config, 5);
  model.train(true);
  const Variable x(random_tensor({2, 64, 64, 3}, 6, 0, 1));
  LossConfig loss_config = config.loss();
  CHECK(loss_config.objectness_weight == 1.0);
  loss_config.assigner = assigner;
  const DetectionLoss loss(loss_config);
  const Tensor targets = Tensor::from(
      Shape{2, 6}, std::vector<float>{0, 1, 0.5f, 0.5f, 0.4f, 0.3f, 1, 3, 0.3f, 0.6f, 0.3f, 0.5f});
  const auto run = [&] {
    const HeadOutput out = model.forward(x);
    LossInput in;
    in.cls_logits = out.cls_logits;
    in.reg = out.reg;
    in.objectness = out.objectness;
    return loss(in, targets, {64, 64, 0});
  };
  const LossResult first = run();
  CHECK(first.items().objectness > 0);
  CHECK(first.items().positives > 0);
  LossResult r = first;
  for (int step = 0; step < 6; ++step) {
    backward(r.loss);
    for (const ParameterRef& p : model.parameters()) {
      if (!p.variable.requires_grad()) continue;
      const bool of_objectness = p.name.find("obj_preds") != std::string::npos;
      if (of_objectness) REQUIRE(p.variable.grad().defined());
      if (!p.variable.grad().defined()) continue;
      float largest = 0;
      for (int64_t i = 0; i < p.variable.data().numel(); ++i) {
        largest = std::max(largest, std::abs(p.variable.grad().f32()[i]));
        p.variable.f32()[i] -= 0.01f * p.variable.grad().f32()[i];
      }
      if (of_objectness) CHECK(largest > 0);
      p.variable.clear_grad();
    }
    r = run();
  }
  CHECK(r.items().objectness < 0.9 * first.items().objectness);
  CHECK(r.items().total() < first.items().total());
}

TEST_CASE("objectness is part of a model's config and is recognised in a checkpoint") {
  for (const Json& j :
       {Json{{"objectness", true}},
        Json{{"type", "yolov6n"}, {"objectness", true}, {"fuse_ab", true}},
        Json{{"objectness", true}, {"distill_ns", true}, {"use_dfl", true}, {"reg_max", 16}}}) {
    const Yolov6Config c = small_config(j);
    CHECK(c.objectness);
    CHECK(c.json().at("objectness") == true);
    CHECK(read_yolov6_config(ConfigReader(c.json(), "file", "model."), 3).json() == c.json());
  }
  CHECK_FALSE(small_config(Json::object()).objectness);
  CHECK(small_config(Json::object()).loss().objectness_weight == 0);
  const auto recognised = [](bool objectness) {
    Yolov6Config c;
    c.num_classes = 5;
    c.objectness = objectness;
    std::vector<std::pair<std::string, Shape>> state;
    SafeTensors file;
    Yolov6(c, 1).save_state(file);
    for (const auto& [name, t] : file.tensors) state.emplace_back(name, t.shape());
    return recognise_yolov6(state, "x.pt").model;
  };
  CHECK(recognised(true).at("objectness") == true);
  CHECK_FALSE(recognised(false).contains("objectness"));
}
