// SPDX-License-Identifier: Apache-2.0
// The models, traced and fused, against the official implementation and in int8.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>

#include "deploy/engine/engine.h"
#include "deploy/engine/simulate.h"
#include "deploy/graph/info.h"
#include "deploy/networks.h"
#include "models/import/official_form.h"
#include "support/model_fixtures.h"

using namespace sextant;
using namespace sextant::deploy;

namespace {

Yolov6Config config_of(const Json& json, int64_t classes) {
  return read_yolov6_config(ConfigReader(json, "test", "model."), classes);
}

// What is left of the official deploy form when everything in it is fused: the weights of its
// convolutions but the 1x1 ones of LinearAddBlocks (they disappear in the 3x3), one bias for each
// output channel, and nothing else: no batch-norm, no scale, no alpha, no constants of proj, none
// of the branches that only training needs.
int64_t fused_parameters(const Json& official) {
  int64_t sum = 0;
  for (const Json& e : official.at("state_dict_deploy")) {
    const auto name = e.at("name").get<std::string>();
    const auto shape = e.at("shape").get<std::vector<int64_t>>();
    const auto has = [&](const char* part) { return name.find(part) != std::string::npos; };
    if (shape.size() != 4 || has("proj_conv") || has("conv_1x1") || has("_preds_ab") ||
        has("_preds_dist"))
      continue;
    int64_t numel = 1;
    for (const int64_t d : shape) numel *= d;
    sum += numel + (has("upsample_transpose") ? shape[1] : shape[0]);
  }
  return sum;
}

// Likewise the operations, two for each multiply-accumulate.
double fused_flops(const Json& official) {
  int64_t macs = 0;
  for (const Json& e : official.at("conv_macs_deploy_640")) {
    const auto name = e[0].get<std::string>();
    if (name.find("proj_conv") == std::string::npos && name.find("conv_1x1") == std::string::npos)
      macs += e[1].get<int64_t>();
  }
  return 2.0 * static_cast<double>(macs);
}

// A model small enough to build often: everything the preset has, few channels.
std::unique_ptr<Yolov6> small_model(Json json) {
  json["width_multiple"] = 0.1;
  json["depth_multiple"] = 0.25;
  auto model = test::formula_model(config_of(json, 5), "small", 1.5);
  model->train(false);
  return model;
}

// Engine and model in fp32, engine and simulation in int8.
void check_engines(const Yolov6& model, bool relu) {
  const Tensor images = test::random_images({1, 128, 64, 3}, 31);
  const Graph fused = fuse(test::traced(model, {1, 64, 64, 3}));
  Tensor expected;
  {
    const NoGrad no_grad;
    expected = model.predict(Variable(test::as_float_images(images))).data();
  }
  CHECK(test::relative_difference(Engine(fused, {1, 128, 64}).run(images), expected) < 1e-5);
  const Graph g = test::with_ranges(fused, images, 0.8f);
  const EngineConfig config{1, 128, 64, Precision::kInt8};
  Engine engine(g, config);
  Engine simulation = make_simulation(g, config);
  CHECK(engine.stats().requantizations == 0);
  int64_t steps = 0, differing = 0, values = 0;
  for (const StepDifference& d : compare_engines(engine, simulation, images)) {
    // where they part first it is a rounding here and there
    if (differing == 0) CHECK((d.max_steps <= 1 && d.differing * 50 <= d.values));
    steps = std::max(steps, d.max_steps);
    differing += d.differing;
    values += d.values;
  }
  CAPTURE(steps, differing, values);
  // Without exponentials both agree to the bit up to the head. With them a rounding that differs
  // is an input of everything behind it, and grows with the depth.
  CHECK(steps <= (relu ? 1 : 8));
  CHECK(differing <= values / (relu ? 10 : 4));
  // Every model has a fully integer form, whose layers are the int8 engine's.
  Engine integer(g, {1, 128, 64, Precision::kInteger});
  CHECK(integer.stats().requantizations == 0);
  for (const StepDifference& d : compare_layers(integer, engine, images)) {
    CAPTURE(d.tensor, d.differing, d.values, d.max_float);
    CHECK(d.max_steps <= 1);
    CHECK(d.max_float < 2e-3);
    if (!d.floats) CHECK(d.differing * 100 <= d.values);
  }
}

}  // namespace

TEST_CASE("YOLOv6-N fuses to convolutions, deconvolutions, pools, concats and decode") {
  auto model = test::formula_model(Yolov6Config{}, "", 1.5);
  model->train(false);
  const Graph g = fuse(test::traced(*model, {1, 64, 64, 3}));
  std::map<NodeKind, int> count;
  for (const Node& n : g.nodes) ++count[n.kind()];
  CHECK(count.size() == 6);
  CHECK(count[NodeKind::kDeconv] == 2);
  CHECK(count[NodeKind::kMaxPool] == 3);
  CHECK(count[NodeKind::kConcat] == 5);
  CHECK(count[NodeKind::kDecode] == 1);
  CHECK(g.find_node("backbone.stem.rbr_reparam") != nullptr);
  CHECK(g.find_node("neck.Rep_p4.block.0.rbr_reparam") != nullptr);
  const GraphSummary s = summarize(g, 640, 640);
  CHECK(format_summary(s).find("backbone.stem.rbr_reparam") != std::string::npos);
  CHECK(summary_to_json(s)["nodes"].size() == g.nodes.size());
}

namespace {

void check_deploy_forms(const std::string& folder) {
  for (const auto& fixture : test::model_fixtures(folder)) {
    INFO("model " << fixture.name);
    const auto f = fixture.numbers();
    const auto model = f ? test::formula_model(fixture.config(), *f)
                         : std::make_unique<Yolov6>(fixture.config(), 1);
    model->train(false);
    const Graph g = fuse(test::traced(*model, {1, 64, 64, 3}));
    const GraphSummary s = summarize(g, 640, 640);
    CHECK(s.parameters == fused_parameters(fixture.json));
    CHECK(s.flops == fused_flops(fixture.json));
    if (fixture.json.at("training_mode") != "hyper_search")  // its official form is not fused
      CHECK(s.readme_flops == fixture.json.at("flops_deploy_640_thop").get<double>());
    for (const Node& n : g.nodes)
      CHECK_FALSE((n.is<AddAttributes>() || n.is<ActivationAttributes>()));
    double apart = 0;
    if (f) {
      const Tensor image = nchw_to_nhwc(f->at("input.image"));
      Engine engine(g, {.batch = image.dim(0),
                        .height = image.dim(1),
                        .width = image.dim(2),
                        .float_images = true});
      apart = test::relative_difference(engine.run(image), f->at("output.eval.pred"));
      CAPTURE(apart);
      CHECK(apart < 1e-5);
    }
    if (std::getenv("SEXTANT_REPORT"))
      std::printf("| %s | %.4f | %.4f | %.4f | %.4f | %.1e |\n", fixture.name.c_str(),
                  static_cast<double>(s.parameters) / 1e6,
                  fixture.json.at("params_deploy").get<double>() / 1e6, s.flops / 1e9,
                  fixture.json.at("flops_deploy_640").get<double>() / 1e9, apart);
  }
}

}  // namespace

TEST_CASE("every model's deploy form has the official parameters, operations and predictions",
          "[numbers]") {
  check_deploy_forms(test::kFixtures);
}

TEST_CASE("every YOLOv6Lite's deploy form has the official parameters and predictions",
          "[numbers]") {
  check_deploy_forms(test::kLiteFixtures);
}

TEST_CASE("the presets have the published numbers of parameters and operations", "[numbers]") {
  struct Published {  // README of the official project: millions, GFLOPs at this image size
    const char* type;
    double parameters, flops;
    int64_t size;
  };
  for (const Published& p : {Published{"yolov6n", 4.7, 11.4, 640},
                             {"yolov6s", 18.5, 45.3, 640},
                             {"yolov6m", 34.9, 85.8, 640},
                             {"yolov6l", 59.6, 150.7, 640},
                             {"yolov6n6", 10.4, 49.8, 1280},
                             {"yolov6s6", 41.4, 198.0, 1280},
                             {"yolov6m6", 79.6, 379.5, 1280},
                             {"yolov6l6", 140.4, 673.4, 1280},
                             {"yolov6n_qa", 4.7, 11.4, 640},
                             {"yolov6s_qa", 18.5, 45.3, 640},
                             {"yolov6m_qa", 34.9, 85.8, 640},
                             {"yolov6s_mbla", 11.6, 29.8, 640},
                             {"yolov6m_mbla", 26.1, 66.7, 640},
                             {"yolov6l_mbla", 46.3, 118.2, 640},
                             {"yolov6x_mbla", 78.8, 199.0, 640},
                             {"yolov6lite_s", 0.55, 0.56, 320},
                             {"yolov6lite_m", 0.79, 0.67, 320},
                             {"yolov6lite_l", 1.09, 0.87, 320}}) {
    CAPTURE(p.type);
    Yolov6 model(yolov6_preset(p.type), 1);
    model.train(false);
    const GraphSummary s = summarize(fuse(test::traced(model, {1, 64, 64, 3})), p.size, p.size);
    CHECK(static_cast<double>(s.parameters) / 1e6 == Approx(p.parameters).margin(0.06));
    CHECK(s.readme_flops / 1e9 == Approx(p.flops).margin(0.1));
    if (std::getenv("SEXTANT_REPORT")) {
      const GraphSummary at640 = summarize(fuse(test::traced(model, {1, 64, 64, 3})), 640, 640);
      std::printf("| %s | %.3f | %.3f | %.3f | %.3f |\n", p.type,
                  static_cast<double>(s.parameters) / 1e6,
                  static_cast<double>(official_deploy_parameters(model)) / 1e6, at640.flops / 1e9,
                  at640.readme_flops / 1e9);
    }
  }
}

TEST_CASE("every preset traces, fuses and runs in fp32 and int8", "[numbers]") {
  for (const std::string& type : yolov6_preset_names()) {
    CAPTURE(type);
    const auto model = small_model({{"type", type}});
    check_engines(*model, model->config().activation == "relu");
  }
}

TEST_CASE("every training mode and activation runs in fp32 and int8") {
  for (const char* mode : {"hyper_search", "repopt", "conv_relu", "conv_silu", "qarepvgg"}) {
    CAPTURE(mode);
    const auto model = small_model({{"type", "yolov6m"}, {"training_mode", mode}});
    check_engines(*model, model->config().activation == "relu");
  }
  for (const char* act : {"leaky_relu", "silu", "hardswish", "mish"}) {
    CAPTURE(act);
    const auto model = small_model({{"type", "yolov6n"}, {"activation", act}});
    check_engines(*model, false);
  }
}

TEST_CASE("a deployed head keeps its anchor-free branch only") {
  const auto plain = small_model({{"type", "yolov6n"}});
  const auto aided = small_model({{"type", "yolov6n"}, {"fuse_ab", true}});
  const auto distilled =
      small_model({{"type", "yolov6n"}, {"distill_ns", true}, {"use_dfl", true}, {"reg_max", 16}});
  const Shape shape{1, 64, 64, 3};
  const Graph expected = fuse(test::traced(*plain, shape));
  for (const Yolov6* model : {aided.get(), distilled.get()}) {
    const Graph g = fuse(test::traced(*model, shape));
    REQUIRE(g.nodes.size() == expected.nodes.size());
    for (size_t i = 0; i < g.nodes.size(); ++i) CHECK(g.nodes[i].name == expected.nodes[i].name);
    CHECK(g.decode()->as<DecodeAttributes>().reg_max == 0);
  }
}
