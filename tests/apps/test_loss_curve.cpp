// Ten training steps against PyTorch in float64 (tests/fixtures/loss_curve.json, made by
// bench/peers/loss_curve.py).
#include "core/config.h"
#include "layers/functional.h"
#include "models/loss.h"
#include "models/yolov6.h"
#include "optim/sgd.h"
#include "support/formula_weights.h"
#include "support/support.h"

using namespace sextant;

TEST_CASE("the loss of ten training steps follows PyTorch's") {
  const Json j =
      load_json(std::filesystem::path(SEXTANT_SOURCE_DIR) / "tests/fixtures/loss_curve.json");
  Yolov6Config config;
  config.num_classes = j.at("classes");
  Yolov6 model(config, 1);
  SafeTensors state;
  model.save_state(state);
  for (const auto& [name, t] : state.tensors)
    test::fill_formula_weights(name, t, j.at("salt"), j.at("gain"));
  model.load_state(state);

  const int64_t size = j.at("size");
  const Tensor bytes(Shape{j.at("batch").get<int64_t>(), size, size, 3}, DType::kU8);
  for (int64_t i = 0; i < bytes.numel(); ++i)
    bytes.data<uint8_t>()[i] = static_cast<uint8_t>(splitmix64(static_cast<uint64_t>(i)) >> 56);
  std::vector<float> rows;
  for (const auto& row : j.at("targets"))
    for (const auto& v : row) rows.push_back(v.get<float>());
  const Tensor targets = Tensor::from(Shape{static_cast<int64_t>(rows.size() / 6), 6}, rows);

  std::vector<optim::NamedParameter> parameters;
  for (const auto& p : model.parameters())
    parameters.push_back(optim::named_parameter(p.name, p.variable));
  optim::Sgd sgd(parameters, {j.at("weight_decay"), true});
  const DetectionLoss loss(config.loss());
  const double rate = j.at("rate");
  const auto expected = j.at("loss_float64").get<std::vector<double>>();
  const auto rounded = j.at("loss_float32").get<std::vector<double>>();
  REQUIRE(expected.size() == 10);
  CHECK(expected.back() < 0.9 * expected.front());  // the run does train
  for (size_t i = 0; i < expected.size(); ++i) {
    const HeadOutput head = model.forward(Variable(image_to_float(bytes)));
    const LossResult r = loss(head.cls_logits, head.reg, targets, size, size);
    backward(r.loss);
    sgd.step({rate, rate, rate}, j.at("momentum"));
    sgd.zero_grad();
    const double off = std::abs(r.loss.data().item() - expected[i]) / expected[i];
    // Rounding flips some ReLUs; three times what it does to PyTorch's own float32 run, where that
    // is above the floor.
    const double allowed = std::max(2e-3, 3 * std::abs(rounded[i] - expected[i]) / expected[i]);
    INFO("step " << i << ": off by " << off << ", allowed " << allowed);
    CHECK(off < allowed);
  }
}
