// YOLOv6-N, traced and fused, against the official implementation and in int8.
#include <algorithm>
#include <map>

#include "core/config.h"
#include "deploy/engine.h"
#include "deploy/info.h"
#include "deploy/simulate.h"
#include "networks.h"
#include "support/formula_weights.h"

using namespace sextant;
using namespace sextant::deploy;

namespace {

std::unique_ptr<Yolov6> formula_model(int64_t classes, const std::string& salt, double gain) {
  Yolov6Config c;
  c.num_classes = classes;
  auto model = std::make_unique<Yolov6>(c, 1);
  SafeTensors state;
  model->save_state(state);
  for (const auto& [name, t] : state.tensors) test::fill_formula_weights(name, t, salt, gain);
  model->load_state(state);
  model->train(false);
  return model;
}

}  // namespace

TEST_CASE("YOLOv6-N fuses to convolutions, deconvolutions, pools, concats and decode") {
  const auto model = formula_model(80, "", 1.5);
  const Graph g = fuse(test::traced(*model, {1, 64, 64, 3}));
  std::map<NodeKind, int> count;
  for (const Node& n : g.nodes) ++count[n.kind];
  CHECK(count.size() == 6);
  CHECK(count[NodeKind::kDeconv] == 2);
  CHECK(count[NodeKind::kMaxPool] == 3);
  CHECK(count[NodeKind::kConcat] == 5);
  CHECK(count[NodeKind::kDecode] == 1);
  CHECK(g.find_node("backbone.stem.rbr_reparam") != nullptr);
  CHECK(g.find_node("neck.Rep_p4.block.0.rbr_reparam") != nullptr);
  const GraphSummary s = summarize(g, 640, 640);
  // the official deploy form, without its 34 constants of proj and proj_conv
  CHECK(s.parameters == 4317246 - 34);
  CHECK(s.flops == 11040768000.0);
  CHECK(format_summary(s).find("backbone.stem.rbr_reparam") != std::string::npos);
  CHECK(summary_to_json(s)["nodes"].size() == g.nodes.size());
}

TEST_CASE("YOLOv6-N: the fp32 engine gives the official predictions") {
  SEXTANT_REQUIRE_FIXTURE(f, "models/yolov6n_opt_repvgg");
  const auto model =
      formula_model(std::stoll(f.meta("num_classes")), f.meta("salt"), std::stod(f.meta("G")));
  const Tensor image = nchw_to_nhwc(f.at("input.image"));
  const Graph g = fuse(test::traced(*model, {1, 64, 64, 3}));
  Engine engine(
      g,
      {.batch = image.dim(0), .height = image.dim(1), .width = image.dim(2), .float_images = true});
  const double apart = test::relative_difference(engine.run(image), f.at("output.eval.pred"));
  CAPTURE(apart);
  CHECK(apart < 1e-5);
}

TEST_CASE("YOLOv6-N in int8: simulation and engine differ by at most one step") {
  const auto model = formula_model(20, "int8", 1.5);
  const Tensor images = test::random_images({1, 64, 96, 3}, 31);
  const Graph g = test::with_ranges(fuse(test::traced(*model, {1, 64, 64, 3})), images, 0.8f);
  const EngineConfig config{1, 64, 96, Precision::kInt8};
  Engine engine(g, config);
  Engine simulation = make_simulation(g, config);
  CHECK(engine.stats().requantizations == 0);
  CHECK(engine.stats().arena_bytes < engine.stats().unplanned_bytes / 3);
  int64_t steps = 0, differing = 0, values = 0;
  for (const StepDifference& d : compare_engines(engine, simulation, images)) {
    CAPTURE(d.tensor);
    CHECK(d.max_float < 1e-5);
    steps = std::max(steps, d.max_steps);
    differing += d.differing;
    values += d.values;
  }
  CAPTURE(differing, values);
  CHECK(steps <= 1);
}
