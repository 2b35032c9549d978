// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "core/parallel.h"
#include "models/loss/loss_sample.h"

using namespace sextant;
using namespace sextant::test;

// The assignment counts as constant in the gradient, so it is fixed for the differences too.
TEST_CASE("detection loss gradients are those of the loss for a fixed assignment") {
  using namespace loss_detail;
  for (const LossKind& kind : kLossKinds) {
    LossSample s = sample_of(kind, 77);
    const LossResult result = s.run();
    REQUIRE((result.items().positives > 0) == (kind.boxes > 0));
    REQUIRE((result.items().positives_ab > 0) == (kind.boxes > 0 && kind.per_cell > 0));
    backward(result.loss);

    const GroundTruth listed = read_targets(s.targets, 3, s.config.num_classes, 80, 64);
    const PlacedBoxes placed = placed_boxes(listed, 3);
    const TruthView& truth = placed.view;
    std::vector<Branch> branches = {branch_of(s)};
    if (kind.per_cell > 0) branches.push_back(branch_of(s, true));
    std::vector<Assignment> assignments;
    for (const Branch& b : branches) assignments.push_back(assign_boxes(s.config, b, truth));
    const auto value = [&] {
      LossSums sums(Device::kCpu);
      for (size_t i = 0; i < branches.size(); ++i)
        evaluate_branch(s.config, branches[i], truth, assignments[i], static_cast<int>(i), sums);
      sums.combine();
      return LossValues(sums.values(), nullptr).items().total();
    };
    REQUIRE(value() + result.items().cwd == Approx(result.loss.data().item()).epsilon(1e-6));

    // The features are not part of a branch; test_loss_fixtures and layers/distill check them.
    const std::vector<Variable> all = s.inputs();
    Rng rng(5);
    for (size_t k = 0; k < all.size() - s.input.features.size(); ++k) {
      const Variable& v = all[k];
      REQUIRE(v.grad().defined());
      double largest = 0;
      for (const float g : v.grad().span<float>())
        largest = std::max(largest, std::abs(static_cast<double>(g)));
      // Some elements at random, and some of those with the largest gradients.
      std::vector<int64_t> picked;
      for (int i = 0; i < 8; ++i) picked.push_back(rng.below(v.data().numel()));
      for (int64_t i = 0; i < v.data().numel() && picked.size() < 20; ++i)
        if (std::abs(static_cast<double>(v.grad().f32()[i])) > 0.3 * largest) picked.push_back(i);
      for (const int64_t i : picked) {
        const float x = v.f32()[i], step = 0x1p-9f;
        v.f32()[i] = x + step;
        const double up = value();
        v.f32()[i] = x - step;
        const double down = value();
        const double width = static_cast<double>(x + step) - static_cast<double>(x - step);
        v.f32()[i] = x;
        const double numeric = (up - down) / width;
        CAPTURE(kind.name, k, i, numeric, v.grad().f32()[i]);
        REQUIRE(std::abs(numeric - static_cast<double>(v.grad().f32()[i])) < 2e-3 * largest + 2e-5);
      }
    }
  }
}

TEST_CASE("detection loss of a batch without boxes still has a gradient for every input") {
  for (const LossKind& kind : kLossKinds)
    for (const Tensor& none : {Tensor({0, 6}), Tensor()}) {
      CAPTURE(kind.name);
      LossSample s = sample_of(kind, 3);
      s.targets = none;
      const LossResult r = s.run();
      REQUIRE(r.items().iou == 0.0);
      REQUIRE(r.items().dfl == 0.0);
      REQUIRE(r.items().cls > 0.0);
      REQUIRE(r.items().positives + r.items().positives_ab == 0);
      backward(r.loss);
      for (const auto* maps : {&s.input.reg, &s.input.reg_lrtb, &s.input.reg_ab})
        for (const Variable& v : *maps)
          for (const float g : v.grad().span<float>()) REQUIRE(g == 0.0f);
      for (const auto* maps : {&s.input.cls_logits_ab, &s.input.objectness,
                               kind.teacher ? nullptr : &s.input.cls_logits})
        for (size_t l = 0; maps && l < maps->size(); ++l)
          for (const float g : (*maps)[l].grad().span<float>()) REQUIRE(g > 0.0f);
    }
}

TEST_CASE("detection loss uses adaptive selection in its first epochs") {
  LossSample s = random_loss_sample(11, 16, 3);
  const auto positives = [&](Assigner assigner, int64_t warmup, int64_t epoch) {
    s.config.assigner = assigner;
    s.config.atss_warmup_epochs = warmup;
    s.step.epoch = epoch;
    const LossItems items = s.run().items();
    REQUIRE(items.target_score > 0);
    return std::pair{items.positives, items.target_score};
  };
  for (const Assigner assigner : {Assigner::kTaskAligned, Assigner::kSimOta}) {
    const auto atss = positives(Assigner::kAtss, 0, 0), own = positives(assigner, 0, 0);
    REQUIRE(atss != own);
    REQUIRE(positives(assigner, 4, 3) == atss);
    REQUIRE(positives(assigner, 4, 4) == own);
  }
}

TEST_CASE("distillation decays to a hundredth over the training run") {
  LossSample s = sample_of(kLossKinds[6], 21);
  const auto part = [&](int64_t epoch) {
    s.step.epoch = epoch;
    return s.run().items().cwd;
  };
  const double first = part(0);
  REQUIRE(first > 0);
  REQUIRE(part(10) == Approx(0.505 * first));
  REQUIRE(part(20) == Approx(0.01 * first));
}

TEST_CASE("distillation from a teacher equal to the student adds nothing") {
  LossSample s = sample_of(kLossKinds[6], 22);
  const auto same = [](const std::vector<Variable>& maps) {
    std::vector<Tensor> out;
    for (const Variable& v : maps) out.push_back(v.data());
    return out;
  };
  s.teacher = {same(s.input.cls_logits), same(s.input.reg), same(s.input.features)};
  const LossItems with = s.run().items();
  s.has_teacher = false;
  const LossItems without = s.run().items();
  REQUIRE(with.cwd == 0.0);
  // With a teacher a sum of target scores below 1 divides too.
  const double sum = without.target_score;
  REQUIRE((sum > 0 && sum < 1));
  REQUIRE(with.cls * sum == Approx(without.cls).epsilon(1e-12));
  REQUIRE(with.dfl * sum == Approx(without.dfl).epsilon(1e-12));
}

TEST_CASE("objectness is cross-entropy to one at assigned anchors") {
  LossSample s = random_loss_sample(31, 0, 3);
  s.config.objectness_weight = 0.5;
  s.input.objectness = random_maps(s, 1, 32, -2, 2);
  const loss_detail::Branch branch = branch_of(s);
  const auto truth = loss_detail::read_targets(s.targets, 3, 3, 80, 64);
  const auto assignment = loss_detail::assign_boxes(s.config, branch, placed_boxes(truth, 3).view);
  double want = 0;
  for (int64_t n = 0; n < 3; ++n)
    for (const auto& m : branch.levels)
      for (int64_t i = 0; i < m.pixels(); ++i) {
        const bool positive =
            assignment.box.data<int32_t>()[n * branch.anchors + m.first_anchor + i] >= 0;
        const double z = m.objectness[n * m.pixels() + i];
        want += std::log1p(std::exp(positive ? -z : z));
      }
  const LossItems items = s.run().items();
  REQUIRE(items.objectness == Approx(0.5 * want / items.target_score));
  s.config.objectness_weight = 0.0;
  REQUIRE(s.run().items().objectness == 0.0);
}

TEST_CASE("detection loss scales its gradients and skips them if none are needed") {
  for (const LossKind& kind : {kLossKinds[0], kLossKinds[6], kLossKinds[8]}) {
    LossSample s = sample_of(kind, 4);
    const LossResult once = s.run();
    backward(once.loss);
    std::vector<Tensor> plain;
    for (const Variable& v : s.inputs()) {
      plain.push_back(v.grad().clone());
      v.clear_grad();
    }
    const LossResult again = s.run();
    backward({{again.loss, Tensor::full({1}, 4.0f)}});
    for (size_t i = 0; i < plain.size(); ++i)
      for (int64_t k = 0; k < plain[i].numel(); ++k)
        REQUIRE(s.inputs()[i].grad().f32()[k] == 4.0f * plain[i].f32()[k]);
    const NoGrad guard;
    const LossResult bare = s.run();
    REQUIRE(!bare.loss.requires_grad());
    REQUIRE(bare.items().total() == once.items().total());
  }
}

TEST_CASE("detection loss does not depend on the number of threads") {
  const int before = num_threads();
  for (const LossKind& kind : kLossKinds) {
    LossSample s = sample_of(kind, 6);
    std::vector<double> values;
    std::vector<Tensor> grads;
    for (const int threads : {1, 3}) {
      set_num_threads(threads);
      const LossResult r = s.run();
      values.push_back(r.items().total());
      backward(r.loss);
      for (const Variable& v : s.inputs()) {
        grads.push_back(v.grad().clone());
        v.clear_grad();
      }
    }
    set_num_threads(before);
    REQUIRE(values[0] == values[1]);
    for (size_t i = 0; i < grads.size() / 2; ++i)
      REQUIRE(max_difference(grads[i], grads[grads.size() / 2 + i]) == 0);
  }
}

TEST_CASE("detection loss does not depend on the order of images in the targets") {
  LossSample s = random_loss_sample(8, 0, 3, 10);
  const double before = s.run().loss.data().item();
  // A stable sort by image keeps the order within each.
  std::vector<std::vector<float>> rows;
  for (int64_t r = 0; r < 10; ++r)
    rows.emplace_back(s.targets.f32() + 6 * r, s.targets.f32() + 6 * (r + 1));
  std::stable_sort(rows.begin(), rows.end(),
                   [](const auto& a, const auto& b) { return a[0] > b[0]; });
  for (size_t r = 0; r < 10; ++r)
    std::copy(rows[r].begin(), rows[r].end(), s.targets.f32() + 6 * r);
  REQUIRE(s.run().loss.data().item() == before);
}

TEST_CASE("detection loss of two maps per level equals the full form") {
  LossSample s = random_loss_sample(10, 16, 3);
  s.config.atss_warmup_epochs = 2;
  s.step.epoch = 2;
  const DetectionLoss loss(s.config);
  const auto at = [&](int64_t epoch) {
    return loss(s.input.cls_logits, s.input.reg, s.targets, 80, 64, epoch).items().total();
  };
  REQUIRE(at(2) == s.run().items().total());
  REQUIRE(at(0) != at(2));
}

TEST_CASE("detection loss names inputs that do not fit") {
  const auto message = [](const std::function<void(LossSample&)>& spoil) {
    LossSample s = random_loss_sample(9, 0, 3);
    return error_of([&] {
      spoil(s);
      s.run();
    });
  };
  const auto with_all = [](const std::function<void(LossSample&)>& spoil) {
    LossSample s = sample_of(kLossKinds[2], 9);
    return error_of([&] {
      spoil(s);
      s.run();
    });
  };
  REQUIRE(message([](LossSample&) {}) == "no error");
  REQUIRE(with_all([](LossSample&) {}) == "no error");
  REQUIRE_THAT(message([](LossSample& s) { s.targets.f32()[6 + 1] = 3; }),
               Contains("row 1 has class 3, the model has 3"));
  REQUIRE_THAT(message([](LossSample& s) { s.targets.f32()[12] = 3; }),
               Contains("row 2 has image index 3, the batch has 3"));
  REQUIRE_THAT(message([](LossSample& s) { s.targets.f32()[4] = std::nanf(""); }),
               Contains("row 0 holds nan at column 4"));
  REQUIRE_THAT(message([](LossSample& s) {
                 s.targets = Tensor({2, 5});
               }),
               Contains("[2,5] on cpu"));
  REQUIRE_THAT(message([](LossSample& s) { s.input.cls_logits.pop_back(); }),
               Contains("2 class maps"));
  REQUIRE_THAT(message([](LossSample& s) { s.input.reg[1] = s.input.cls_logits[1]; }),
               Contains("distance map of level 1"));
  REQUIRE_THAT(message([](LossSample& s) { s.input.reg[2] = s.input.reg[1]; }),
               Contains("of level 2"));
  REQUIRE_THAT(message([](LossSample& s) { s.config.strides = {}; }), Contains("0 levels"));
  REQUIRE_THAT(message([](LossSample& s) { s.config.use_dfl = true; }), Contains("reg_max 0"));
  REQUIRE_THAT(message([](LossSample& s) { s.config.objectness_weight = 1; }),
               Contains("0 objectness maps for 3"));
  REQUIRE_THAT(with_all([](LossSample& s) { s.config.max_epoch = 0; }),
               Contains("a teacher needs max_epoch"));
  REQUIRE_THAT(
      with_all([](LossSample& s) { s.teacher.reg[1] = s.teacher.reg[0]; }),
      Contains("distance map of level 1 is [3,10,8,68] of the teacher, [3,5,4,68] of the"));
  REQUIRE_THAT(with_all([](LossSample& s) { s.teacher.features.pop_back(); }),
               Contains("2 feature maps of the teacher, 3 of the student"));
  REQUIRE_THAT(with_all([](LossSample& s) { s.input.features.clear(); }),
               Contains("no features are given"));
  REQUIRE_THAT(with_all([](LossSample& s) { s.input.reg_lrtb.pop_back(); }),
               Contains("2 lrtb maps for 3"));
  REQUIRE_THAT(with_all([](LossSample& s) { s.input.reg_ab.clear(); }),
               Contains("3 class maps and 0 box maps of the anchor-aided branch"));
  REQUIRE_THAT(with_all([](LossSample& s) { s.config.anchors.pop_back(); }),
               Contains("anchors of 2 levels for 3"));
  REQUIRE_THAT(with_all([](LossSample& s) { s.config.anchors[1][0] = -1; }),
               Contains("anchor size -1"));
}
