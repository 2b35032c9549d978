// SPDX-License-Identifier: Apache-2.0
// Every model of the fixtures against the official implementation, with formula weights.
#include <cstdio>
#include <cstdlib>

#include "kernels/conv.h"
#include "models/import/official_form.h"
#include "support/model_checks.h"
#include "support/support.h"

using namespace sextant;
using test::ModelFixture;

namespace {

void check_state_dicts(const std::string& folder) {
  for (const ModelFixture& fixture : test::model_fixtures(folder)) {
    INFO("model " << fixture.name);
    const Yolov6Config config = fixture.config();
    CHECK(config.strides() == fixture.json.at("strides").get<std::vector<int64_t>>());
    CHECK(name_of(config.iou_type) == fixture.json.at("head").at("iou_type").get<std::string>());
    const Yolov6 model(config, 1);
    SafeTensors state;
    model.save_state(state);
    const auto& expected = fixture.json.at("state_dict");
    REQUIRE(state.tensors.size() == expected.size());
    for (size_t i = 0; i < expected.size(); ++i) {
      const auto& [name, t] = state.tensors[i];
      CHECK(name == expected[i].at("name").get<std::string>());
      const auto shape = expected[i].at("shape").get<std::vector<int64_t>>();
      CHECK(t.shape() == Shape{std::span<const int64_t>(shape)});
    }
    int64_t parameters = 0;
    for (const auto& p : model.parameters()) parameters += p.variable.data().numel();
    CHECK(parameters == fixture.json.at("params_train").get<int64_t>());
    CHECK(official_deploy_parameters(model) == fixture.json.at("params_deploy").get<int64_t>());
  }
}

void check_numbers(const std::string& folder) {
  // The recorded gradients are sensitive to how sums are rounded; test_kernels covers Winograd.
  const kernels::cpu::ExactSums exact;
  for (const ModelFixture& fixture : test::model_fixtures(folder)) {
    const auto f = fixture.numbers();
    if (!f) continue;
    INFO("model " << fixture.name);
    const Yolov6Config config = fixture.config();
    const auto model = test::formula_model(config, *f);
    test::Deviations d;
    model->train(false);
    check_eval(*model, *f, d);
    check_eval_gradients(*model, *f, d);
    model->train(true);
    check_train(*model, *f, d);
    if (!config.fuse_ab && !config.distill_ns) check_loss(*model, *f, d);
    if (std::getenv("SEXTANT_REPORT"))
      std::printf("| %s | %.1e | %.1e | %.1e | %.1e | %.1e | %.1e |\n", fixture.name.c_str(),
                  d.eval, d.eval_grad, d.train, d.after, d.grad_median, d.loss);
  }
}

}  // namespace

TEST_CASE("every model's state dict has the official names, shapes and order") {
  check_state_dicts(test::kFixtures);
}

TEST_CASE("every YOLOv6Lite's state dict has the official names, shapes and order") {
  check_state_dicts(test::kLiteFixtures);
}

TEST_CASE("every model computes what the official one does, and its gradients", "[numbers]") {
  check_numbers(test::kFixtures);
}

TEST_CASE("every YOLOv6Lite computes what the official one does, and its gradients", "[numbers]") {
  check_numbers(test::kLiteFixtures);
}

TEST_CASE("every preset makes a model, and its JSON makes the same one") {
  for (const std::string& type : yolov6_preset_names()) {
    CAPTURE(type);
    const Yolov6Config c = read_yolov6_config(ConfigReader({{"type", type}}, "model", "model."), 3);
    CHECK(c.json() == yolov6_preset(type).json());
    CHECK(read_yolov6_config(ConfigReader(c.json(), "file", "model."), 3).json() == c.json());
  }
  Json j = {{"type", "yolov6m"}, {"fuse_ab", true}, {"csp_e", 0.5}, {"activation", "mish"}};
  const Yolov6Config c = read_yolov6_config(ConfigReader(j, "file", "model."), 3);
  CHECK(read_yolov6_config(ConfigReader(c.json(), "file", "model."), 3).json() == c.json());
  CHECK(c.block().act == Activation::kMish);
}

TEST_CASE("an impossible model is refused with the key and the reason") {
  const auto error = [](const Json& j) {
    return test::error_of([&] { read_yolov6_config(ConfigReader(j, "c.json", "model."), 3); });
  };
  CHECK(error({{"type", "yolov6q"}})
            .find("c.json: 'model.type': unknown model type 'yolov6q'; use") == 0);
  CHECK(error({{"type", "yolov6n"}, {"neck", "RepBiFPANNeck6"}}) ==
        "c.json: 'model.neck' is RepBiFPANNeck6, for 4 levels, but backbone EfficientRep has 3");
  CHECK(error({{"type", "yolov6n"}, {"backbone", "EfficientRep6"}, {"neck", "RepBiFPANNeck6"}}) ==
        "c.json: 'model.backbone_channels' has 5 entries, EfficientRep6 needs 6");
  CHECK(error({{"type", "yolov6n"}, {"strides", {8, 16, 64}}}) ==
        "c.json: 'model.strides' is [8, 16, 64], but backbone EfficientRep gives [8, 16, 32]");
  CHECK(error({{"type", "yolov6n"}, {"csp_e", 0.5}}) ==
        "c.json: 'model.csp_e' is given, but neither EfficientRep nor RepBiFPANNeck has CSP "
        "stages");
  CHECK(error({{"type", "yolov6l"}, {"activation", "mish"}}) ==
        "c.json: 'model.activation' is mish, but training mode conv_silu means silu");
  CHECK(error({{"type", "yolov6n"}, {"fuse_ab", true}, {"distill_ns", true}}) ==
        "c.json: 'model.distill_ns' is true together with 'model.fuse_ab'");
  CHECK(error({{"type", "yolov6n"}, {"distill_ns", true}}) ==
        "c.json: 'model.distill_ns' is true, which needs 'model.use_dfl' true and a "
        "'model.reg_max'");
  CHECK(error({{"type", "yolov6n6"}, {"fuse_ab", true}}) ==
        "c.json: 'model.anchors' has 0 levels, EfficientRep6 has 4 (fuse_ab needs w, h of each "
        "anchor of each level)");
  CHECK(error({{"type", "yolov6n"}, {"reg_max", 16}}) ==
        "c.json: 'model.reg_max' is 16 with 'model.use_dfl' false");
  CHECK(error({{"type", "yolov6n"}, {"backbone_repeats", {1, 2, 3, 4, 0}}}) ==
        "c.json: 'model.backbone_repeats' holds 0, must be in [1, 8192]");
  CHECK(
      error({{"type", "yolov6n"}, {"neck", "Lite_EffiNeck"}}) ==
      "c.json: 'model.neck' is Lite_EffiNeck, but backbone EfficientRep goes with the other necks");
  CHECK(error({{"type", "yolov6lite_s"}, {"neck", "RepBiFPANNeck6"}}) ==
        "c.json: 'model.neck' is RepBiFPANNeck6, but backbone Lite_EffiBackbone goes with "
        "Lite_EffiNeck");
  CHECK(error({{"type", "yolov6lite_s"}, {"fuse_ab", true}}) ==
        "c.json: 'model.fuse_ab' is true, but the head of Lite_EffiBackbone has no such branch");
  CHECK(
      error({{"type", "yolov6lite_m"}, {"training_mode", "repopt"}}) ==
      "c.json: 'model.training_mode' is repopt, but Lite_EffiBackbone has no blocks of other forms "
      "in training");
  CHECK(error({{"type", "yolov6lite_l"}, {"cspsppf", true}}) ==
        "c.json: 'model.cspsppf' is given, but Lite_EffiBackbone has no pyramid pooling");
  CHECK(error({{"type", "yolov6n"}, {"width", 0.5}}) ==
        "c.json: unknown key 'model.width'; nearest is 'model.type'");
}

TEST_CASE("metadata of older checkpoints is read") {
  const Yolov6Config c =
      read_yolov6_config(ConfigReader({{"type", "yolov6n_opt"}}, "c.json", "model."), 3);
  CHECK(c.training_mode == TrainingMode::kRepVGG);
  CHECK(c.neck == NeckKind::kRepPAN);
}

TEST_CASE("an input size that is not a multiple of the largest stride is refused") {
  Yolov6Config c;
  c.num_classes = 3;
  const Yolov6 model(c, 1);
  CHECK(test::error_of([&] {
          model.forward(Variable(Tensor::zeros(Shape{1, 100, 96, 3})));
        }).find("multiples of 32") != std::string::npos);
  const Yolov6 lite(yolov6_preset("yolov6lite_s"), 1);
  CHECK(test::error_of([&] {
          lite.forward(Variable(Tensor::zeros(Shape{1, 80, 96, 3})));
        }).find("multiples of 32") != std::string::npos);
}
