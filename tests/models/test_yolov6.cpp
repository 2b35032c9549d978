// YOLOv6-N (legacy RepPAN) against the official implementation with formula weights.
#include <cmath>

#include "core/config.h"
#include "layers/functional.h"
#include "models/yolov6.h"
#include "support/formula_weights.h"
#include "support/support.h"

namespace {

using namespace sextant;
using test::relative_difference;

std::unique_ptr<Yolov6> formula_model(const SafeTensors& f) {
  Yolov6Config c;
  c.num_classes = std::stoll(f.meta("num_classes"));
  auto model = std::make_unique<Yolov6>(c, 1);
  SafeTensors state;
  model->save_state(state);
  for (const auto& [name, t] : state.tensors)
    test::fill_formula_weights(name, t, f.meta("salt"), std::stod(f.meta("G")));
  model->load_state(state);
  return model;
}

// Levels [N,H,W,C] joined to [N,A,C], as the official head gives them.
Variable flatten(const std::vector<Variable>& levels) {
  const int64_t n = levels[0].dim(0), c = levels[0].dim(3);
  int64_t anchors = 0;
  for (const auto& v : levels) anchors += v.dim(1) * v.dim(2);
  const Tensor out(Shape{n, anchors, c});
  std::vector<Shape> shapes;
  for (const auto& v : levels) shapes.push_back(v.shape());
  const auto move = [=](const std::vector<Tensor>& parts, const Tensor& whole, bool forward) {
    for (int64_t i = 0; i < n; ++i) {
      int64_t first = 0;
      for (const auto& p : parts) {
        const int64_t size = p.dim(1) * p.dim(2) * c;
        float* a = p.f32() + i * size;
        float* b = whole.f32() + (i * anchors) * c + first;
        if (forward)
          std::copy_n(a, size, b);
        else
          std::copy_n(b, size, a);
        first += size;
      }
    }
  };
  std::vector<Tensor> parts;
  for (const auto& v : levels) parts.push_back(v.data());
  move(parts, out, true);
  return make_result("flatten", out, levels, [=](const Tensor& dy, const std::vector<bool>&) {
    std::vector<Tensor> grads;
    for (const auto& s : shapes) grads.emplace_back(s);
    move(grads, dy, false);
    return grads;
  });
}

double l2(const Tensor& t) {
  double sum = 0;
  for (const float v : t.span<float>()) sum += static_cast<double>(v) * v;
  return std::sqrt(sum);
}

// Compares gradients with "<prefix>.param.*" (largest deviation) and "<prefix>_l2.all" (norms).
struct GradientCheck {
  double worst_value = 0, worst_norm = 0;
  int values = 0, norms = 0;
};
GradientCheck compare_gradients(const Yolov6& model, const SafeTensors& f,
                                const std::string& prefix) {
  GradientCheck r;
  const auto names = Json::parse(f.meta(prefix + "_names")).get<std::vector<std::string>>();
  const Tensor& norms = f.at(prefix + "_l2.all");
  for (const auto& p : model.parameters()) {
    const auto it = std::find(names.begin(), names.end(), p.name);
    if (it == names.end()) continue;
    REQUIRE(p.variable.grad().defined());
    const double expected = norms.f32()[it - names.begin()];
    r.worst_norm = std::max(r.worst_norm, std::abs(l2(p.variable.grad()) - expected) / expected);
    ++r.norms;
    if (const Tensor* g = f.find(prefix + ".param." + p.name)) {
      r.worst_value = std::max(
          r.worst_value, relative_difference(to_file_layout(p.variable.grad(), p.layout), *g));
      ++r.values;
    }
  }
  CHECK(r.norms == static_cast<int>(names.size()));
  return r;
}

void clear(const Yolov6& model) {
  for (const auto& p : model.parameters()) p.variable.clear_grad();
}

const std::string kName = "models/yolov6n_opt_repvgg";

}  // namespace

TEST_CASE("the state dict has the official names, shapes and order") {
  const auto shared = test::shared_folder();
  if (!shared) {
    WARN("skipped: shared fixtures are absent; set SEXTANT_SHARED");
    return;
  }
  const Json j = load_json(*shared / "fixtures" / (kName + ".json"));
  Yolov6Config c;
  const Yolov6 model(c, 1);
  SafeTensors state;
  model.save_state(state);
  const auto& expected = j.at("state_dict");
  REQUIRE(state.tensors.size() == expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    const Json& e = expected[i];
    const auto& [name, t] = state.tensors[i];
    const Json& name_json = e.is_array() ? e[0] : e.at("name");
    const Json& shape_json = e.is_array() ? e[1] : e.at("shape");
    CHECK(name == name_json.get<std::string>());
    CHECK(t.shape() == Shape{std::span<const int64_t>(shape_json.get<std::vector<int64_t>>())});
  }
  int64_t parameters = 0;
  for (const auto& p : model.parameters()) parameters += p.variable.data().numel();
  CHECK(parameters == j.at("params_train").get<int64_t>());
}

TEST_CASE("evaluation mode: features, predictions and gradients agree with the official model") {
  SEXTANT_REQUIRE_FIXTURE(f, kName);
  const auto model = formula_model(f);
  model->train(false);
  const Variable x(nchw_to_nhwc(f.at("input.image")));
  const auto features = model->forward_features(x);
  for (size_t i = 0; i < 3; ++i) {
    const std::string k = std::to_string(i);
    CHECK(relative_difference(nhwc_to_nchw(features.backbone[i].data()),
                              f.at("output.eval.backbone." + k)) < 1e-5);
    CHECK(relative_difference(nhwc_to_nchw(features.neck[i].data()),
                              f.at("output.eval.neck." + k)) < 1e-5);
  }
  const Variable pred = model->head().decode(features.head);
  CHECK(relative_difference(pred.data(), f.at("output.eval.pred")) < 1e-5);

  backward({{pred, f.at("grad_output.eval_pred")}});
  const GradientCheck g = compare_gradients(*model, f, "eval_grad");
  INFO("worst value " << g.worst_value << " of " << g.values << ", norm " << g.worst_norm);
  CHECK(g.values >= 8);
  CHECK(g.worst_value < 1e-4);
  CHECK(g.worst_norm < 1e-4);
}

TEST_CASE("training mode: outputs, statistics, gradients and loss agree with the official model") {
  SEXTANT_REQUIRE_FIXTURE(f, kName);
  const auto model = formula_model(f);
  model->train(true);
  const Variable x(nchw_to_nhwc(f.at("input.image")));
  {
    const auto features = model->forward_features(x);
    for (size_t i = 0; i < 3; ++i)
      CHECK(relative_difference(nhwc_to_nchw(features.neck[i].data()),
                                f.at("output.train.neck." + std::to_string(i))) < 1e-4);
    std::vector<Variable> scores;
    for (const auto& v : features.head.cls_logits) scores.push_back(sigmoid(v));
    const Variable cls = flatten(scores), reg = flatten(features.head.reg);
    CHECK(relative_difference(cls.data(), f.at("output.train.cls_scores")) < 1e-4);
    CHECK(relative_difference(reg.data(), f.at("output.train.reg_dist")) < 1e-4);
    int compared = 0;
    for (const auto& b : model->buffers())
      if (const Tensor* t = f.find("after." + b.name)) {
        CHECK(relative_difference(b.tensor, *t) < 1e-5);
        ++compared;
      }
    CHECK(compared >= 4);
    backward({{cls, f.at("grad_output.cls_scores")}, {reg, f.at("grad_output.reg_dist")}});
    const GradientCheck g = compare_gradients(*model, f, "grad");
    INFO("worst value " << g.worst_value << ", norm " << g.worst_norm);
    CHECK(g.worst_value < 1e-3);
    CHECK(g.worst_norm < 1e-3);
  }
  clear(*model);
  const DetectionLoss loss(model->config().loss());
  const HeadOutput out = model->forward(x);
  const LossResult r = loss(out.cls_logits, out.reg, f.at("input.targets"), 128, 128);
  // PyTorch's own float32 run is 4.6e-5 away (the fixture's float32_rel_diff_outputs).
  CHECK(r.loss.data().item() == Approx(f.at("output.loss").item()).epsilon(1e-4));
  const Tensor& items = f.at("output.loss_items_iou_dfl_cls");
  CHECK(r.items.iou == Approx(items.f32()[0]).epsilon(1e-4));
  CHECK(r.items.cls == Approx(items.f32()[2]).epsilon(1e-4));
  backward(r.loss);
  const GradientCheck g = compare_gradients(*model, f, "loss_grad");
  INFO("worst value " << g.worst_value << ", norm " << g.worst_norm);
  CHECK(g.worst_value < 1e-3);
  CHECK(g.worst_norm < 1e-3);
}

TEST_CASE("an input that is no multiple of 32 is refused") {
  Yolov6Config c;
  c.num_classes = 3;
  const Yolov6 model(c, 1);
  CHECK(test::error_of([&] {
          model.forward(Variable(Tensor::zeros(Shape{1, 100, 96, 3})));
        }).find("multiples of 32") != std::string::npos);
}
