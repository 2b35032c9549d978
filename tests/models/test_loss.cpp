#include <algorithm>
#include <cmath>

#include "core/config.h"
#include "core/parallel.h"
#include "models/loss.h"
#include "models/loss_evaluation.h"
#include "support/support.h"

using namespace sextant;
using namespace sextant::test;

namespace {

// Predictions in both forms, and what they are compared with.
struct Sample {
  LossConfig config;
  std::vector<FeatureShape> shapes;
  Tensor targets;
  int64_t image_h = 0, image_w = 0;
  Variable scores, reg;                      // [N,A,C]
  std::vector<Variable> cls_maps, reg_maps;  // [N,H,W,C], class maps as logits

  Variable& input(size_t i) {
    return i < cls_maps.size() ? cls_maps[i] : reg_maps[i - cls_maps.size()];
  }
  // Cuts the concatenated tensors into level maps; scores become logits.
  void cut() {
    const int64_t batch = scores.dim(0), anchors = scores.dim(1);
    int64_t offset = 0;
    for (const FeatureShape& s : shapes) {
      const int64_t pixels = s.height * s.width;
      const auto level = [&](const Variable& v, bool logit) {
        const int64_t channels = v.dim(2);
        Tensor out({batch, s.height, s.width, channels});
        for (int64_t n = 0; n < batch; ++n)
          for (int64_t i = 0; i < pixels * channels; ++i) {
            const double x = v.f32()[(n * anchors + offset) * channels + i];
            out.f32()[n * pixels * channels + i] =
                static_cast<float>(logit ? std::log(x / (1 - x)) : x);
          }
        return Variable(out, true);
      };
      cls_maps.push_back(level(scores, true));
      reg_maps.push_back(level(reg, false));
      offset += pixels;
    }
  }
  LossResult concatenated() const {
    return DetectionLoss(config).from_scores(scores, reg, shapes, targets, image_h, image_w);
  }
  LossResult by_level() const {
    return DetectionLoss(config)(cls_maps, reg_maps, targets, image_h, image_w);
  }
};

// Three levels of 80 x 64 pixels, three images, the last without a box.
constexpr int64_t kAnchors = 105;
Sample random_sample(uint64_t seed, int64_t reg_max, int64_t classes, int boxes = 9) {
  Sample s;
  s.config.num_classes = classes;
  s.config.reg_max = reg_max;
  s.config.use_dfl = reg_max > 0;
  s.shapes = {{10, 8}, {5, 4}, {5, 1}};
  s.image_h = 80;
  s.image_w = 64;
  Rng rng(seed);
  std::vector<float> t;
  for (int i = 0; i < boxes; ++i) {
    t.push_back(static_cast<float>(rng.below(2)));
    t.push_back(static_cast<float>(rng.below(classes)));
    for (int k = 0; k < 2; ++k) t.push_back(static_cast<float>(rng.uniform(0.2, 0.8)));
    for (int k = 0; k < 2; ++k) t.push_back(static_cast<float>(rng.uniform(0.15, 0.6)));
  }
  s.targets = Tensor::from({boxes, 6}, t);
  const int64_t channels = s.config.reg_channels();
  s.scores = Variable(random_tensor({3, kAnchors, classes}, seed + 1, 0.05, 0.9), true);
  s.reg = Variable(
      random_tensor({3, kAnchors, channels}, seed + 2, reg_max > 0 ? -3 : 0.3, reg_max > 0 ? 3 : 4),
      true);
  s.cut();
  return s;
}

Sample fixture_sample(const SafeTensors& f) {
  Sample s;
  s.config.num_classes = std::stoll(f.meta("num_classes"));
  s.config.strides = Json::parse(f.meta("strides")).get<std::vector<int64_t>>();
  s.config.iou_type = kernels::iou_type_from_name(f.meta("iou_type"));
  s.config.reg_max = std::stoll(f.meta("reg_max"));
  s.config.use_dfl = f.meta("use_dfl") == "True";
  const Json weights = Json::parse(f.meta("loss_weight"));
  s.config.class_weight = weights["class"];
  s.config.iou_weight = weights["iou"];
  s.config.dfl_weight = weights["dfl"];
  const Tensor& shapes = f.at("input.feat_shapes");
  for (int64_t l = 0; l < shapes.dim(0); ++l)
    s.shapes.push_back({shapes.data<int64_t>()[2 * l], shapes.data<int64_t>()[2 * l + 1]});
  s.image_h = std::stoll(f.meta("batch_height"));
  s.image_w = std::stoll(f.meta("batch_width"));
  s.targets = f.at("input.targets");
  s.scores = Variable(f.at("input.pred_scores"), true);
  s.reg = Variable(f.at("input.pred_distri"), true);
  s.cut();
  return s;
}

// The level maps' gradients put together as [N,A,C].
Tensor joined(const std::vector<Variable>& maps) {
  int64_t anchors = 0;
  for (const Variable& v : maps) anchors += v.dim(1) * v.dim(2);
  const int64_t batch = maps[0].dim(0), channels = maps[0].dim(3);
  Tensor out({batch, anchors, channels});
  int64_t offset = 0;
  for (const Variable& v : maps) {
    const int64_t pixels = v.dim(1) * v.dim(2);
    for (int64_t n = 0; n < batch; ++n)
      std::copy_n(v.grad().f32() + n * pixels * channels, pixels * channels,
                  out.f32() + (n * anchors + offset) * channels);
    offset += pixels;
  }
  return out;
}

// d loss / d logit from d loss / d score.
Tensor chained(const Tensor& grad, const Tensor& scores) {
  Tensor out(grad.shape());
  for (int64_t i = 0; i < grad.numel(); ++i) {
    const double s = scores.f32()[i];
    out.f32()[i] = static_cast<float>(static_cast<double>(grad.f32()[i]) * s * (1 - s));
  }
  return out;
}

}  // namespace

TEST_CASE("detection loss matches the official one") {
  for (const char* name : {"rm0_giou_tal", "rm0_siou_tal", "rm16_giou_tal", "rm16_siou_tal",
                           "p6_rm0_siou_tal", "small_sum_tal", "all_empty_tal"}) {
    CAPTURE(name);
    SEXTANT_REQUIRE_FIXTURE(f, std::string("losses/compute_loss_") + name);
    Sample s = fixture_sample(f);
    const Tensor& items = f.at("output.loss_items_iou_dfl_cls");
    const Tensor& want_scores = f.at("grad.pred_scores");
    const Tensor& want_reg = f.at("grad.pred_distri");
    const auto compare = [&](const LossResult& r, double tolerance) {
      REQUIRE(r.loss.data().item() == Approx(f.at("output.loss").item()).epsilon(tolerance));
      REQUIRE(std::abs(r.items.iou - static_cast<double>(items.f32()[0])) < tolerance * 10);
      REQUIRE(std::abs(r.items.dfl - static_cast<double>(items.f32()[1])) < tolerance * 10);
      REQUIRE(r.items.cls == Approx(items.f32()[2]).epsilon(tolerance));
      REQUIRE(r.items.positives == std::stoll(f.meta("n_pos")));
      REQUIRE(r.items.target_score == Approx(std::stod(f.meta("target_scores_sum"))).margin(1e-6));
    };
    const LossResult whole = s.concatenated();
    compare(whole, 1e-6);
    backward(whole.loss);
    REQUIRE(relative_difference(s.scores.grad(), want_scores) < 1e-6);
    REQUIRE(max_difference(s.reg.grad(), want_reg) < 1e-6);

    const LossResult levels = s.by_level();
    compare(levels, 3e-6);
    backward(levels.loss);
    REQUIRE(relative_difference(joined(s.cls_maps), chained(want_scores, s.scores.data())) < 1e-5);
    REQUIRE(max_difference(joined(s.reg_maps), want_reg) < 3e-6);
  }
}

TEST_CASE("assignment inside the loss matches the official one") {
  SEXTANT_REQUIRE_FIXTURE(f, "losses/compute_loss_rm16_siou_tal");
  Sample s = fixture_sample(f);
  const auto truth = loss_detail::read_targets(s.targets, 3, 10, s.image_h, s.image_w);
  const Tensor& boxes = f.at("assigned.target_bboxes");
  const uint8_t* foreground = f.at("assigned.fg_mask").data<uint8_t>();
  loss_detail::Predictions pred;
  pred.batch = 3;
  pred.anchors = 252;
  int64_t offset = 0;
  for (const FeatureShape& shape : s.shapes) {
    loss_detail::LevelView v;
    v.cls = s.scores.f32() + offset * 10;
    v.reg = s.reg.f32() + offset * 68;
    v.height = shape.height;
    v.width = shape.width;
    v.image_anchors = 252;
    pred.levels.push_back(v);
    offset += v.anchors();
  }
  const auto assignment = loss_detail::assign_boxes(s.config, pred, truth);
  for (int64_t i = 0; i < 3 * 252; ++i) {
    REQUIRE((assignment.box[i] >= 0) == (foreground[i] != 0));
    if (assignment.box[i] < 0) continue;
    const int64_t g = truth.begin[i / 252] + assignment.box[i];
    for (int64_t k = 0; k < 4; ++k)
      REQUIRE(truth.boxes[4 * g + k] == Approx(boxes.f32()[4 * i + k]));
  }
}

TEST_CASE("both forms of the detection loss agree") {
  for (const int64_t reg_max : {0, 16})
    for (const int64_t classes : {1, 5}) {
      Sample s = random_sample(20 + reg_max + classes, reg_max, classes);
      const LossResult a = s.concatenated(), b = s.by_level();
      REQUIRE(a.items.positives == b.items.positives);
      REQUIRE(a.items.positives > 40);
      REQUIRE(a.items.iou == Approx(b.items.iou).epsilon(1e-5));
      REQUIRE(a.items.dfl == Approx(b.items.dfl).epsilon(1e-5));
      REQUIRE(a.items.cls == Approx(b.items.cls).epsilon(1e-5));
      REQUIRE(a.loss.data().item() == Approx(a.items.iou + a.items.dfl + a.items.cls));
      if (reg_max == 0) REQUIRE(a.items.dfl == 0.0);
      backward(a.loss);
      backward(b.loss);
      REQUIRE(relative_difference(joined(s.cls_maps), chained(s.scores.grad(), s.scores.data())) <
              1e-5);
      REQUIRE(relative_difference(joined(s.reg_maps), s.reg.grad()) < 1e-5);
    }
}

// The assignment counts as constant in the gradient, so it is fixed for the differences too.
TEST_CASE("detection loss gradients are those of the loss for a fixed assignment") {
  using namespace loss_detail;
  struct Kind {
    int64_t reg_max;
    kernels::IouType iou;
    bool levels;
    int boxes;
  };
  // ciou is left out: it holds one of its factors constant as well.
  for (const Kind& kind :
       {Kind{0, kernels::IouType::kSIoU, true, 8}, Kind{16, kernels::IouType::kGIoU, true, 8},
        Kind{0, kernels::IouType::kGIoU, false, 8}, Kind{16, kernels::IouType::kSIoU, false, 8},
        Kind{16, kernels::IouType::kDIoU, true, 0}}) {
    CAPTURE(kind.reg_max, kind.levels);
    Sample s = random_sample(77, kind.reg_max, 4, kind.boxes);
    s.config.iou_type = kind.iou;
    Predictions pred;
    pred.batch = 3;
    pred.anchors = kAnchors;
    pred.logits = kind.levels;
    int64_t offset = 0;
    for (size_t l = 0; l < 3; ++l) {
      LevelView v;
      v.height = s.shapes[l].height;
      v.width = s.shapes[l].width;
      const int index = static_cast<int>(l);
      if (kind.levels) {
        v.cls = s.cls_maps[l].f32();
        v.reg = s.reg_maps[l].f32();
        v.image_anchors = v.anchors();
        pred.blocks.push_back({v.cls, nullptr, index, index + 1});
      } else {
        v.cls = s.scores.f32() + offset * 4;
        v.reg = s.reg.f32() + offset * s.config.reg_channels();
        v.image_anchors = kAnchors;
      }
      pred.levels.push_back(v);
      offset += v.anchors();
    }
    if (!kind.levels) pred.blocks = {{s.scores.f32(), nullptr, 0, 3}};
    const Truth truth = read_targets(s.targets, 3, 4, s.image_h, s.image_w);
    const Assignment assignment = assign_boxes(s.config, pred, truth);
    const LossResult result = kind.levels ? s.by_level() : s.concatenated();
    REQUIRE((result.items.positives > 0) == (kind.boxes > 0));
    backward(result.loss);

    std::vector<Variable> inputs = {s.scores, s.reg};
    if (kind.levels) {
      inputs = s.cls_maps;
      inputs.insert(inputs.end(), s.reg_maps.begin(), s.reg_maps.end());
    }
    Rng rng(5);
    for (const Variable& v : inputs) {
      REQUIRE(v.grad().defined());
      double largest = 0;
      for (const float g : v.grad().span<float>())
        largest = std::max(largest, std::abs(static_cast<double>(g)));
      // Some elements at random, and some of those with the largest gradients.
      std::vector<int64_t> picked;
      for (int i = 0; i < 12; ++i) picked.push_back(rng.below(v.data().numel()));
      for (int64_t i = 0; i < v.data().numel() && picked.size() < 30; ++i)
        if (std::abs(static_cast<double>(v.grad().f32()[i])) > 0.3 * largest) picked.push_back(i);
      for (const int64_t i : picked) {
        const float x = v.f32()[i], step = 0x1p-9f;
        v.f32()[i] = x + step;
        const LossItems up = evaluate_loss(s.config, pred, truth, assignment);
        v.f32()[i] = x - step;
        const LossItems down = evaluate_loss(s.config, pred, truth, assignment);
        const double width = static_cast<double>(x + step) - static_cast<double>(x - step);
        v.f32()[i] = x;
        const double numeric = (up.iou - down.iou + up.dfl - down.dfl + up.cls - down.cls) / width;
        CAPTURE(i, numeric, v.grad().f32()[i]);
        REQUIRE(std::abs(numeric - static_cast<double>(v.grad().f32()[i])) < 2e-3 * largest + 2e-5);
      }
    }
  }
}

TEST_CASE("detection loss of a batch without boxes still has a gradient for every input") {
  Sample s = random_sample(3, 16, 3, 0);
  for (const Tensor& none : {Tensor({0, 6}), Tensor()}) {
    s.targets = none;
    const LossResult r = s.by_level();
    REQUIRE(r.items.iou == 0.0);
    REQUIRE(r.items.dfl == 0.0);
    REQUIRE(r.items.cls > 0.0);
    backward(r.loss);
    for (const Variable& v : s.reg_maps) {
      REQUIRE(v.grad().defined());
      for (const float g : v.grad().span<float>()) REQUIRE(g == 0.0f);
      v.clear_grad();
    }
    for (const Variable& v : s.cls_maps) {
      for (const float g : v.grad().span<float>()) REQUIRE(g > 0.0f);
      v.clear_grad();
    }
  }
}

TEST_CASE("detection loss scales its gradients and does without when none are wanted") {
  Sample s = random_sample(4, 0, 3);
  const LossResult once = s.by_level();
  backward(once.loss);
  std::vector<Tensor> plain;
  for (size_t i = 0; i < 6; ++i) {
    plain.push_back(s.input(i).grad().clone());
    s.input(i).clear_grad();
  }
  const LossResult again = s.by_level();
  backward({{again.loss, Tensor::full({1}, 4.0f)}});
  for (size_t i = 0; i < 6; ++i) {
    for (int64_t k = 0; k < plain[i].numel(); ++k)
      REQUIRE(s.input(i).grad().f32()[k] == 4.0f * plain[i].f32()[k]);
  }
  const NoGrad guard;
  const LossResult bare = s.by_level();
  REQUIRE(!bare.loss.requires_grad());
  REQUIRE(bare.items.cls == once.items.cls);
  REQUIRE(bare.items.iou == once.items.iou);
}

TEST_CASE("detection loss does not depend on the number of threads") {
  Sample s = random_sample(6, 16, 6, 14);
  const int before = omp_get_max_threads();
  std::vector<double> values;
  std::vector<Tensor> grads;
  for (const int threads : {1, 3}) {
    omp_set_num_threads(threads);
    const LossResult r = s.by_level();
    values.insert(values.end(), {r.items.iou, r.items.dfl, r.items.cls});
    backward(r.loss);
    for (size_t i = 0; i < 6; ++i) {
      grads.push_back(s.input(i).grad().clone());
      s.input(i).clear_grad();
    }
  }
  omp_set_num_threads(before);
  for (size_t i = 0; i < 3; ++i) REQUIRE(values[i] == values[i + 3]);
  for (size_t i = 0; i < 6; ++i) REQUIRE(max_difference(grads[i], grads[i + 6]) == 0);
}

TEST_CASE("detection loss does not depend on the order of images in the targets") {
  Sample s = random_sample(8, 0, 3, 10);
  const double before = s.by_level().loss.data().item();
  // A stable sort by image keeps the order within each.
  std::vector<std::vector<float>> rows;
  for (int64_t r = 0; r < 10; ++r)
    rows.emplace_back(s.targets.f32() + 6 * r, s.targets.f32() + 6 * (r + 1));
  std::stable_sort(rows.begin(), rows.end(),
                   [](const auto& a, const auto& b) { return a[0] > b[0]; });
  for (size_t r = 0; r < 10; ++r)
    std::copy(rows[r].begin(), rows[r].end(), s.targets.f32() + 6 * r);
  REQUIRE(s.by_level().loss.data().item() == before);
}

TEST_CASE("detection loss names what does not fit") {
  const auto message = [](const std::function<void(Sample&)>& spoil) {
    Sample s = random_sample(9, 0, 3);
    return error_of([&] {
      spoil(s);
      s.by_level();
    });
  };
  using Catch::Contains;
  REQUIRE(message([](Sample&) {}) == "no error");
  REQUIRE_THAT(message([](Sample& s) { s.targets.f32()[6 + 1] = 3; }),
               Contains("row 1 has class 3, the model has 3"));
  REQUIRE_THAT(message([](Sample& s) { s.targets.f32()[12] = 3; }),
               Contains("row 2 has image index 3, the batch has 3"));
  REQUIRE_THAT(message([](Sample& s) { s.targets.f32()[4] = std::nanf(""); }),
               Contains("row 0 holds nan at column 4"));
  REQUIRE_THAT(message([](Sample& s) { s.targets = Tensor({2, 5}); }), Contains("[2,5]"));
  REQUIRE_THAT(message([](Sample& s) { s.cls_maps.pop_back(); }), Contains("2 class maps"));
  REQUIRE_THAT(message([](Sample& s) { s.reg_maps[1] = s.cls_maps[1]; }),
               Contains("distance map of level 1"));
  REQUIRE_THAT(message([](Sample& s) { s.reg_maps[2] = s.reg_maps[1]; }), Contains("of level 2"));
  REQUIRE_THAT(message([](Sample& s) { s.config.strides = {}; }), Contains("0 levels"));
  REQUIRE_THAT(message([](Sample& s) { s.config.use_dfl = true; }), Contains("reg_max 0"));
  Sample s = random_sample(9, 0, 3);
  s.shapes[0].height = 9;
  REQUIRE_THAT(error_of([&] { s.concatenated(); }), Contains("expected F32 [N,97,3]"));
}
