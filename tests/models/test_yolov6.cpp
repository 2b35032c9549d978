// Every model of fixtures/models against the official implementation, with formula weights.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "layers/functional.h"
#include "models/official_form.h"
#include "support/model_fixtures.h"
#include "support/support.h"

namespace {

using namespace sextant;
using test::ModelFixture;
using test::relative_difference;

std::vector<ModelFixture> fixtures() {
  auto found = test::model_fixtures();
  if (found.empty()) WARN("skipped: fixtures models are absent; set SEXTANT_SHARED");
  return found;
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

// Each anchor's channels as a map of its own, in the official order: level, anchor, cell.
std::vector<Variable> split_anchors(const std::vector<Variable>& levels, int64_t channels) {
  std::vector<Variable> out;
  for (const auto& v : levels)
    for (int64_t c = 0; c < v.dim(3); c += channels)
      out.push_back(slice_channels(v, c, c + channels));
  return out;
}

// The head's outputs under the names of the fixtures.
std::vector<std::pair<std::string, Variable>> named_outputs(const HeadOutput& head,
                                                            int64_t classes) {
  std::vector<Variable> scores, scores_ab;
  for (const auto& v : head.cls_logits) scores.push_back(sigmoid(v));
  for (const auto& v : split_anchors(head.cls_logits_ab, classes)) scores_ab.push_back(sigmoid(v));
  std::vector<std::pair<std::string, Variable>> out;
  const auto add = [&](const char* name, const std::vector<Variable>& levels) {
    if (!levels.empty()) out.emplace_back(name, flatten(levels));
  };
  add("cls_scores", scores);
  add("reg_dist", head.reg);
  add("cls_scores_ab", scores_ab);
  add("reg_dist_ab", split_anchors(head.reg_ab, 4));
  add("reg_lrtb", head.reg_lrtb);
  return out;
}

double l2(const Tensor& t) {
  double sum = 0;
  for (const float v : t.span<float>()) sum += static_cast<double>(v) * v;
  return std::sqrt(sum);
}

double number(const SafeTensors& f, const std::string& key, double otherwise) {
  const auto found = f.metadata.find(key);
  return found == f.metadata.end() ? otherwise : std::stod(found->second);
}

// How far PyTorch's own float32 is away from the file's doubles; 0 where it does not say.
double float32_of(const SafeTensors& f, const std::string& tensor) {
  const auto found = f.metadata.find("float32_rel_diff_outputs");
  return found == f.metadata.end() ? 0.0 : Json::parse(found->second).value(tensor, 0.0);
}

void clear(const Yolov6& model) {
  for (const auto& p : model.parameters()) p.variable.clear_grad();
}

// Relative deviations of one model, the largest of each kind; the lines of the report.
struct Deviations {
  double eval = 0, eval_grad = 0, train = 0, after = 0, grad_median = 0, loss = 0;
};

// Compares a tensor with the fixture's, allowing 1e-5 or three times what float32 PyTorch needs.
void compare(const SafeTensors& f, const std::string& name, const Tensor& ours, double& worst) {
  const double apart = relative_difference(ours, f.at(name));
  INFO(name << " is " << apart << " away, float32 PyTorch " << float32_of(f, name));
  CHECK(apart <= std::max(1e-5, 3 * float32_of(f, name)));
  worst = std::max(worst, apart);
}

// Gradients against "<prefix>.param.*" (largest deviation) and "<prefix>_l2.all" (norms).
struct GradientCheck {
  double median = 0, worst = 0;
  double median_limit = 0, worst_limit = 0;
};

// The limits are 1e-4 or, in the middle and at worst, three times those of PyTorch's own float32.
// Scalars (alpha: a sum over a whole map that mostly cancels) are measured by the largest of them.
GradientCheck measure_gradients(const Yolov6& model, const SafeTensors& f,
                                const std::string& prefix) {
  const auto names = Json::parse(f.meta(prefix + "_names")).get<std::vector<std::string>>();
  const auto zeros = Json::parse(f.meta("zero_grad_names")).get<std::vector<std::string>>();
  const bool eval = prefix == "eval_grad";  // zeros come from train-mode batch-norms
  const Tensor& norms = f.at(prefix + "_l2.all");
  const auto expected = [&](const std::string& name) {
    return static_cast<double>(
        norms.f32()[std::find(names.begin(), names.end(), name) - names.begin()]);
  };
  double largest_scalar = 0;
  for (const auto& p : model.parameters())
    if (p.variable.data().numel() == 1 && p.variable.grad().defined())
      largest_scalar = std::max(largest_scalar, expected(p.name));
  std::vector<double> apart;
  size_t seen = 0;
  for (const auto& p : model.parameters()) {
    const Tensor& grad = p.variable.grad();
    CAPTURE(prefix, p.name);
    if (std::find(names.begin(), names.end(), p.name) == names.end()) {
      CHECK((!grad.defined() || l2(grad) == 0));
      continue;
    }
    ++seen;
    REQUIRE(grad.defined());
    if (!eval && std::find(zeros.begin(), zeros.end(), p.name) != zeros.end()) continue;
    const bool scalar = grad.numel() == 1;
    const double norm = scalar ? largest_scalar : expected(p.name);
    apart.push_back(std::abs(l2(grad) - expected(p.name)) / std::max(norm, 1e-30));
    const Tensor* g = f.find(prefix + ".param." + p.name);
    if (g && !scalar) apart.push_back(relative_difference(to_file_layout(grad, p.layout), *g));
  }
  CHECK(seen == names.size());
  REQUIRE(!apart.empty());
  std::sort(apart.begin(), apart.end());
  const auto limit = [&](const char* of) {
    return std::max(1e-4, 3 * number(f, "float32_rel_l2_diff_" + prefix + "s_" + of, 0));
  };
  return {apart[apart.size() / 2], apart.back(), limit("median"), limit("max")};
}

double compare_gradients(const GradientCheck& g) {
  INFO("gradients: median " << g.median << ", worst " << g.worst);
  CHECK(g.median <= g.median_limit);
  CHECK(g.worst <= g.worst_limit);
  return g.median;
}

// The image, each value moved within its last bit; the image itself for seed 0.
Tensor nudged(const Tensor& image, uint64_t seed) {
  Tensor x = image.clone();
  Rng rng(seed);
  if (seed > 0)
    for (float& v : x.span<float>()) v *= static_cast<float>(1.0 + rng.uniform(-1, 1) * 0x1p-23);
  return x;
}

// Where rounding puts one of a million values on the other side of ReLU's kink, the gradient behind
// it jumps. So the reference may be met from any of eight points within the rounding of the image:
// `run` makes the gradients from the one it is given. The best of them counts.
GradientCheck best_gradients(
    const Yolov6& model, const SafeTensors& f, const std::string& prefix,
    const std::function<void(const Tensor& image, uint64_t attempt)>& run) {
  const Tensor image = nchw_to_nhwc(f.at("input.image"));
  const auto excess = [](const GradientCheck& g) {
    return std::max(g.median / g.median_limit, g.worst / g.worst_limit);
  };
  const bool eval = prefix == "eval_grad";  // where batch-norm does not spread a jump
  GradientCheck best;
  for (uint64_t attempt = 0; attempt < 8; ++attempt) {
    clear(model);
    run(nudged(image, attempt), attempt);
    const GradientCheck g = measure_gradients(model, f, prefix);
    if (attempt == 0 || excess(g) < excess(best)) best = g;
    if (eval ? best.worst <= 1e-4 : excess(best) <= 1) break;
  }
  return best;
}

void check_eval(const Yolov6& model, const SafeTensors& f, Deviations& d) {
  const Tensor image = nchw_to_nhwc(f.at("input.image"));
  {
    const NoGrad guard;
    const auto features = model.forward_features(Variable(image));
    const auto check_maps = [&](const char* part, const std::vector<Variable>& maps) {
      int compared = 0;
      for (size_t i = 0; i < maps.size(); ++i) {
        const std::string name = std::string("output.eval.") + part + "." + std::to_string(i);
        if (!f.find(name)) continue;
        compare(f, name, nhwc_to_nchw(maps[i].data()), d.eval);
        ++compared;
      }
      CHECK(compared >= 3);
    };
    check_maps("backbone", features.backbone);
    check_maps("neck", features.neck);
  }
  const auto run = [&](const Tensor& x, uint64_t attempt) {
    const Variable pred = model.predict(Variable(x));
    if (attempt == 0) compare(f, "output.eval.pred", pred.data(), d.eval);
    backward({{pred, f.at("grad_output.eval_pred")}});
  };
  d.eval_grad = compare_gradients(best_gradients(model, f, "eval_grad", run));
}

void check_train(const Yolov6& model, const SafeTensors& f, Deviations& d) {
  const auto features = model.forward_features(Variable(nchw_to_nhwc(f.at("input.image"))));
  for (size_t i = 0; i < features.neck.size(); ++i)
    compare(f, "output.train.neck." + std::to_string(i), nhwc_to_nchw(features.neck[i].data()),
            d.train);
  int statistics = 0;
  for (const auto& b : model.buffers())
    if (f.find("after." + b.name)) {
      compare(f, "after." + b.name, b.tensor, d.after);
      ++statistics;
    }
  CHECK(statistics >= 4);
  const auto run = [&](const Tensor& x, uint64_t attempt) {
    const HeadOutput head = model.forward(Variable(x));
    std::vector<std::pair<Variable, Tensor>> roots;
    for (const auto& [name, v] : named_outputs(head, model.config().num_classes)) {
      if (attempt == 0) compare(f, "output.train." + name, v.data(), d.train);
      roots.emplace_back(v, f.at("grad_output." + name));
    }
    backward(roots);
  };
  d.grad_median = compare_gradients(best_gradients(model, f, "grad", run));
}

// The plain head's loss.
void check_loss(const Yolov6& model, const SafeTensors& f, Deviations& d) {
  const Tensor& image = f.at("input.image");
  const DetectionLoss loss(model.config().loss());
  const HeadOutput out = model.forward(Variable(nchw_to_nhwc(image)));
  const LossResult r =
      loss(out.cls_logits, out.reg, f.at("input.targets"), image.dim(2), image.dim(3));
  // A scalar's error may cancel by luck, in PyTorch's run as in ours: what the outputs allow
  // counts.
  double limit = 1e-5;
  for (const char* name : {"output.loss", "output.train.cls_scores", "output.train.reg_dist"})
    limit = std::max(limit, 3 * float32_of(f, name));
  const double expected = f.at("output.loss").item();
  d.loss = std::abs(r.loss.data().item() - expected) / expected;
  INFO("loss is " << d.loss << " away");
  CHECK(d.loss <= limit);
  const Tensor& items = f.at("output.loss_items_iou_dfl_cls");
  CHECK(r.items().iou == Approx(items.f32()[0]).epsilon(10 * limit));
  CHECK(r.items().dfl == Approx(items.f32()[1]).epsilon(10 * limit));
  CHECK(r.items().cls == Approx(items.f32()[2]).epsilon(10 * limit));
  compare_gradients(best_gradients(model, f, "loss_grad", [&](const Tensor& x, uint64_t) {
    const HeadOutput head = model.forward(Variable(x));
    backward(
        loss(head.cls_logits, head.reg, f.at("input.targets"), image.dim(2), image.dim(3)).loss);
  }));
}

}  // namespace

TEST_CASE("every model's state dict has the official names, shapes and order") {
  for (const ModelFixture& fixture : fixtures()) {
    INFO("model " << fixture.name);
    const Yolov6Config config = fixture.config();
    CHECK(config.strides() == fixture.json.at("strides").get<std::vector<int64_t>>());
    CHECK(config.iou_type == fixture.json.at("head").at("iou_type").get<std::string>());
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

TEST_CASE("every model computes what the official one does, and its gradients") {
  for (const ModelFixture& fixture : fixtures()) {
    const auto f = fixture.numbers();
    if (!f) continue;
    INFO("model " << fixture.name);
    const Yolov6Config config = fixture.config();
    const auto model = test::formula_model(config, f->meta("salt"), std::stod(f->meta("G")));
    Deviations d;
    model->train(false);
    check_eval(*model, *f, d);
    clear(*model);
    model->train(true);
    check_train(*model, *f, d);
    clear(*model);
    if (!config.fuse_ab && !config.distill_ns) check_loss(*model, *f, d);
    if (std::getenv("SEXTANT_REPORT"))
      std::printf("| %s | %.1e | %.1e | %.1e | %.1e | %.1e | %.1e |\n", fixture.name.c_str(),
                  d.eval, d.eval_grad, d.train, d.after, d.grad_median, d.loss);
  }
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

TEST_CASE("a model that makes no sense is refused with the key and the reason") {
  const auto error = [](const Json& j) {
    return test::error_of([&] { read_yolov6_config(ConfigReader(j, "c.json", "model."), 3); });
  };
  CHECK(error({{"type", "yolov6q"}}).find("c.json: 'model.type' is 'yolov6q'") == 0);
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
  CHECK(error({{"type", "yolov6n"}, {"width", 0.5}}) ==
        "c.json: unknown key 'model.width'; nearest is 'model.type'");
}

TEST_CASE("metadata of older checkpoints is read") {
  const Yolov6Config c =
      read_yolov6_config(ConfigReader({{"type", "yolov6n_opt"}}, "c.json", "model."), 3);
  CHECK(c.training_mode == "repvgg");
  CHECK(c.neck == "RepPANNeck");
}

TEST_CASE("an input that is no multiple of the largest stride is refused") {
  Yolov6Config c;
  c.num_classes = 3;
  const Yolov6 model(c, 1);
  CHECK(test::error_of([&] {
          model.forward(Variable(Tensor::zeros(Shape{1, 100, 96, 3})));
        }).find("multiples of 32") != std::string::npos);
}
