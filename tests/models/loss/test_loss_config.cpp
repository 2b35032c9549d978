// SPDX-License-Identifier: Apache-2.0
#include "models/loss/detection_loss.h"
#include "support/support.h"

using namespace sextant;
using namespace sextant::test;

namespace {

LossConfig read_loss(const char* text, const LossConfig& defaults = {}) {
  return read_loss_config(ConfigReader(Json::parse(text), "run.json", "loss."), defaults);
}

}  // namespace

TEST_CASE("loss config reads the given keys and keeps the defaults of others") {
  LossConfig defaults;
  defaults.num_classes = 3;
  defaults.iou_type = kernels::IouType::kSIoU;
  defaults.iou_weight = 4.0;
  const LossConfig same = read_loss("{}", defaults);
  REQUIRE(same.json() == defaults.json());
  REQUIRE(same.num_classes == 3);
  const LossConfig c = read_loss(
      R"({"cls": "poly", "iou": "alpha_ciou", "assigner": "simota", "atss_warmup_epochs": 4,
          "poly_epsilon": 0.5, "topk": 10, "distill_feat_weight": 10, "temperature": 4})",
      defaults);
  REQUIRE(c.cls_loss == kernels::ClassLossType::kPoly);
  REQUIRE(c.iou_type == kernels::IouType::kAlphaCIoU);
  REQUIRE(c.assigner == Assigner::kSimOta);
  REQUIRE(c.atss_warmup_epochs == 4);
  REQUIRE(c.poly_epsilon == 0.5);
  REQUIRE(c.topk == 10);
  REQUIRE(c.distill_feat_weight == 10.0);
  REQUIRE(c.temperature == 4.0);
  REQUIRE(c.iou_weight == 4.0);
}

TEST_CASE("loss config writes what it reads") {
  // Every key with a value that is not its default: each has to come back.
  Json j = LossConfig{}.json();
  for (auto& [key, value] : j.items()) {
    if (key == "cls")
      value = "focal";
    else if (key == "iou")
      value = "diou";
    else if (key == "assigner")
      value = "atss";
    else if (key == "class_weights")
      value = {{"b", 2.5}};
    else if (key == "focal_alpha")
      value = 0.75;
    else if (value.is_number_integer())
      value = value.get<int64_t>() + 1;
    else
      value = value.get<double>() + 0.5;
  }
  LossConfig c = read_loss(j.dump().c_str());
  REQUIRE(c.json() == j);
  c.num_classes = 2;
  c.name_classes({"a", "b"}, "run.json");
  REQUIRE(c.weight_of_class == std::vector<float>{1, 2.5f});
  REQUIRE(DetectionLoss(c).config().json() == j);
}

TEST_CASE("loss config refuses unknown keys and values out of range by name") {
  REQUIRE_THAT(error_of([] { read_loss(R"({"class": 1})"); }),
               Contains("unknown key 'loss.class'"));
  REQUIRE_THAT(error_of([] { read_loss(R"({"cls": "hinge"})"); }),
               Contains("run.json: 'loss.cls': unknown class loss 'hinge'; use varifocal, focal, "
                        "quality_focal or poly"));
  REQUIRE_THAT(error_of([] { read_loss(R"({"iou": "eiou"})"); }),
               Contains("'loss.iou': unknown IoU type 'eiou'"));
  REQUIRE_THAT(error_of([] { read_loss(R"({"assigner": "max"})"); }), Contains("'loss.assigner'"));
  REQUIRE_THAT(error_of([] { read_loss(R"({"focal_gamma": 0.5})"); }),
               Contains("'loss.focal_gamma'"));
  REQUIRE_THAT(error_of([] { read_loss(R"({"temperature": 0})"); }),
               Contains("'loss.temperature'"));
  REQUIRE_THAT(error_of([] { read_loss(R"({"topk": "x"})"); }), Contains("wrong type"));
  REQUIRE_THAT(error_of([] { from_name<Assigner>("max"); }),
               Contains("unknown assigner 'max'; use tal, atss or simota"));
}

TEST_CASE("class weights of classes that are not there, or without their names, are refused") {
  LossConfig c = read_loss(R"({"class_weights": {"plateletts": 2}})");
  REQUIRE(error_of([&] {
            c.name_classes({"platelets", "cells"}, "run.json");
          }) ==
          "run.json: 'loss.class_weights' names 'plateletts', which is no class; nearest is "
          "'platelets'");
  REQUIRE(error_of([&] { DetectionLoss{c}; }).find("class weights") != std::string::npos);
  REQUIRE(error_of([] { read_loss(R"({"class_weights": {"a": -1}})"); }).find("'a' -1") !=
          std::string::npos);
  REQUIRE(error_of([] { read_loss(R"({"class_weights": {"a": "2"}})"); }).find("'a' \"2\"") !=
          std::string::npos);
}
