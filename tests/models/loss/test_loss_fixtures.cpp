// SPDX-License-Identifier: Apache-2.0
// The variants of the loss against the official ones.
#include "models/loss/loss_fixture.h"

using namespace sextant;
using namespace sextant::test;

TEST_CASE("every fixture of losses/ belongs to a test") {
  CHECK(unclaimed_fixtures(kLossFixtures) == std::vector<std::string>{});
}

TEST_CASE("detection loss matches the official one") {
  for (const std::string& name : fixtures_of(kLossFixtures, "compute_loss_")) {
    CAPTURE(name);
    SEXTANT_REQUIRE_FIXTURE(f, name);
    LossSample s = fixture_loss_sample(f);
    set_predictions(s, f);
    require_equal(s, f, "output.loss_items_iou_dfl_cls", kParts);
  }
}

TEST_CASE("assignment inside the loss matches the official one") {
  for (const std::string& name : fixtures_of(kLossFixtures, "compute_loss_")) {
    CAPTURE(name);
    SEXTANT_REQUIRE_FIXTURE(f, name);
    LossSample s = fixture_loss_sample(f);
    set_predictions(s, f);
    const loss_detail::Branch branch = branch_of(s);
    const auto truth = loss_detail::read_targets(s.targets, branch.batch, s.config.num_classes,
                                                 s.step.image_h, s.step.image_w);
    const auto assignment =
        loss_detail::assign_boxes(s.config, branch, placed_boxes(truth, branch.batch).view);
    const uint8_t* foreground = f.at("assigned.fg_mask").data<uint8_t>();
    for (int64_t i = 0; i < branch.batch * branch.anchors; ++i) {
      const int32_t g = assignment.box.data<int32_t>()[i];
      REQUIRE((g >= 0) == (foreground[i] != 0));
      if (g < 0) continue;
      const int64_t row = truth.begin[i / branch.anchors] + g;
      REQUIRE(truth.classes[row] == f.at("assigned.target_labels").data<int64_t>()[i]);
      for (int64_t k = 0; k < 4; ++k)
        REQUIRE(truth.boxes[4 * row + k] ==
                Approx(f.at("assigned.target_bboxes").f32()[4 * i + k]));
      REQUIRE(
          assignment.target.data<double>()[i] ==
          Approx(
              f.at("assigned.target_scores").f32()[i * s.config.num_classes + truth.classes[row]])
              .margin(1e-6));
    }
  }
}

TEST_CASE("distillation loss matches the official one") {
  for (const std::string& name : fixtures_of(kLossFixtures, "distill_")) {
    CAPTURE(name);
    SEXTANT_REQUIRE_FIXTURE(f, name);
    LossSample s = fixture_loss_sample(f);
    set_predictions(s, f);
    set_teacher(s, f);
    require_equal(s, f, "output.loss_items_iou_dfl_cls_cwd", kPartsWithCwd);
    for (size_t l = 0; l < s.input.features.size(); ++l)
      REQUIRE(relative_difference(nhwc_to_nchw(s.input.features[l].grad()),
                                  f.at("grad.s_featmap." + std::to_string(l))) < 1e-5);
  }
}

TEST_CASE("distillation loss with plain distances beside matches the official one") {
  for (const std::string& name : fixtures_of(kLossFixtures, "distill_ns_")) {
    CAPTURE(name);
    SEXTANT_REQUIRE_FIXTURE(f, name);
    LossSample s = fixture_loss_sample(f);
    set_predictions(s, f);
    set_teacher(s, f);
    s.input.reg_lrtb = leaves(cut(f.at("input.pred_lrtb"), s.shapes));
    require_equal(s, f, "output.loss_items_iou_dfl_cls_cwd", kPartsWithCwd);
    REQUIRE(relative_difference(joined_grads(s.input.reg_lrtb), f.at("grad.pred_lrtb")) < 1e-5);
    for (size_t l = 0; l < s.input.features.size(); ++l)
      REQUIRE(relative_difference(nhwc_to_nchw(s.input.features[l].grad()),
                                  f.at("grad.s_featmap." + std::to_string(l))) < 1e-5);
  }
}

// The official anchor-aided loss is a function of its own; here it is what the branch adds.
TEST_CASE("anchor-aided loss matches the official one, with decoded and with raw sizes") {
  for (const std::string& name : fixtures_of(kLossFixtures, "fuseab_")) {
    SEXTANT_REQUIRE_FIXTURE(f, name);
    const Tensor& scores = f.at("input.pred_scores");
    const Tensor& boxes = f.at("input.pred_distri");
    const Tensor& want = f.at("grad.pred_distri");
    const int64_t per_cell = std::stoll(f.meta("num_anchors"));
    for (const bool raw : {false, true}) {
      CAPTURE(name, raw);
      LossSample s = fixture_loss_sample(f);
      s.config.use_dfl = false;
      s.config.topk_ab = std::stoll(f.meta("topk"));
      const int64_t batch = scores.dim(0), classes = scores.dim(2);
      for (const MapShape& m : s.shapes) {
        s.input.cls_logits.emplace_back(Tensor::full({batch, m.height, m.width, classes}, -4.0f));
        s.input.reg.emplace_back(Tensor::full({batch, m.height, m.width, 4}, 1.0f));
      }
      const LossItems alone = s.run().items();

      // Raw sizes t with size = (2 sigmoid(t))^2 anchor; the largest is twice the anchor.
      double cells = 0;
      for (int64_t i = 0; i < boxes.numel(); ++i)
        if (i % 4 >= 2) cells = std::max(cells, static_cast<double>(boxes.f32()[i]) / 2);
      const Tensor raw_boxes = boxes.clone();
      if (raw) {
        s.config.anchors.clear();
        for (const int64_t stride : s.config.strides)
          s.config.anchors.emplace_back(2 * per_cell, cells * static_cast<double>(stride));
        for (int64_t i = 0; i < boxes.numel(); ++i)
          if (i % 4 >= 2) {
            const double half = std::sqrt(static_cast<double>(boxes.f32()[i]) / cells) / 2;
            raw_boxes.f32()[i] = static_cast<float>(std::log(half / (1 - half)));
          }
      }
      s.input.cls_logits_ab = leaves(cut(logits_of(scores), s.shapes, per_cell));
      s.input.reg_ab = leaves(cut(raw_boxes, s.shapes, per_cell));
      const LossResult r = s.run();
      const float* items = f.at("output.loss_items_iou_dfl_cls").f32();
      REQUIRE(r.items().iou - alone.iou == Approx(items[0]).epsilon(1e-5));
      REQUIRE(r.items().dfl == 0.0);
      REQUIRE(r.items().cls - alone.cls == Approx(items[2]).epsilon(1e-5));
      REQUIRE(r.items().total() - alone.total() ==
              Approx(f.at("output.loss").item()).epsilon(1e-5));
      REQUIRE(r.items().positives_ab == std::stoll(f.meta("n_pos")));
      backward(r.loss);
      REQUIRE(relative_difference(joined_grads(s.input.cls_logits_ab, per_cell),
                                  by_logit(f.at("grad.pred_scores"), scores)) < 1e-5);
      const Tensor chained = want.clone();
      for (int64_t i = 0; raw && i < want.numel(); ++i)
        if (i % 4 >= 2) {
          const double size = boxes.f32()[i];
          chained.f32()[i] *= static_cast<float>(2 * size * (1 - std::sqrt(size / cells) / 2));
        }
      REQUIRE(relative_difference(joined_grads(s.input.reg_ab, per_cell), chained) < 1e-5);
    }
  }
}
