// Figures that need the inside of the engine: the machine's own f32 limit, and a training step
// taken apart. Each prints one line of JSON.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "apps/cli/command_line.h"
#include "core/allocator.h"
#include "core/config.h"
#include "core/median.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "layers/functional.h"
#include "models/loss/detection_loss.h"
#include "models/yolov6.h"
#include "optim/ema.h"
#include "optim/sgd.h"
#include "synthetic.h"

namespace {

using namespace sextant;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Multiply-adds on registers only, on all threads: what no kernel can exceed.
double peak_gflops() {
#if defined(__AVX512F__)
  constexpr int kVec = 16, kChains = 14;
#elif defined(__AVX__)
  constexpr int kVec = 8, kChains = 12;
#else
  constexpr int kVec = 4, kChains = 12;
#endif
  using Vec = float __attribute__((vector_size(kVec * sizeof(float))));  // one register
  constexpr int64_t kSteps = 4'000'000;
  double best = 0;
  for (int run = 0; run < 5; ++run) {
    const double start = now();
    float sink = 0;
#pragma omp parallel reduction(+ : sink)
    {
      Vec acc[kChains];
      for (int i = 0; i < kChains; ++i) acc[i] = Vec{} + static_cast<float>(i);
      Vec a = Vec{} + 0.999f, b = Vec{} + 1e-3f;
      for (int64_t s = 0; s < kSteps; ++s) {
        for (int i = 0; i < kChains; ++i) acc[i] = acc[i] * a + b;
        asm volatile("" : "+x"(a), "+x"(b));
      }
      for (int i = 0; i < kChains; ++i) sink += acc[i][0];
    }
    const double seconds = now() - start + 0.0 * static_cast<double>(sink);
    best = std::max(best, 2.0 * kVec * kChains * kSteps * num_threads() / seconds * 1e-9);
  }
  return best;
}

struct StepOptions {
  int64_t batch = 16, classes = 80;
  int image_size = 320, runs = 7;
  TrainingMode mode = TrainingMode::kRepVGG;
};

Json train_step(const StepOptions& o) {
  Yolov6Config config;
  config.num_classes = o.classes;
  config.training_mode = o.mode;
  Yolov6 model(config, 1);
  std::vector<optim::NamedParameter> parameters;
  for (const auto& p : model.parameters())
    parameters.push_back(optim::named_parameter(p.name, p.variable));
  optim::NamedTensors state;
  for (const auto& s : model.state()) state.emplace_back(s.name, s.tensor);
  optim::Sgd sgd(parameters, {5e-4, true});
  optim::ModelEma ema(state);
  const DetectionLoss loss(config.loss());
  Rng rng(3);
  const Tensor images(Shape{o.batch, o.image_size, o.image_size, 3}, DType::kU8);
  for (auto& v : images.span<uint8_t>()) v = static_cast<uint8_t>(rng.below(256));
  const Tensor targets = bench::random_targets(o.batch, o.classes, rng);
  std::vector<double> forward, losses, back, update, total;
  for (int r = -2; r < o.runs; ++r) {
    const double t0 = now();
    const HeadOutput head = model.forward(Variable(image_to_float(images)));
    const double t1 = now();
    const LossResult l = loss(head.cls_logits, head.reg, targets, o.image_size, o.image_size);
    const double t2 = now();
    backward(l.loss);
    const double t3 = now();
    sgd.step({1e-3, 1e-3, 1e-3}, 0.9);
    sgd.zero_grad();
    ema.update();
    const double t4 = now();
    if (r < 0) continue;
    forward.push_back(t1 - t0);
    losses.push_back(t2 - t1);
    back.push_back(t3 - t2);
    update.push_back(t4 - t3);
    total.push_back(t4 - t0);
  }
  return {{"what", "train_step"},
          {"mode", name_of(o.mode)},
          {"batch", o.batch},
          {"image_size", o.image_size},
          {"classes", o.classes},
          {"threads", num_threads()},
          {"forward_s", median(forward)},
          {"loss_s", median(losses)},
          {"backward_s", median(back)},
          {"update_s", median(update)},
          {"total_s", median(total)},
          {"total_min_s", *std::ranges::min_element(total)},
          {"peak_memory_mb", static_cast<double>(host_stats().peak_bytes) / 1e6}};
}

}  // namespace

int main(int argc, char** argv) {
  apps::Program app("Benchmarks of the engine's inside; one line of JSON each", "sextant_bench");
  apps::Command peak = app.add_command("peak", "The machine's f32 multiply-add rate");
  peak.callback([] {
    fmt::print(
        "{}\n",
        Json{{"what", "peak"}, {"threads", num_threads()}, {"gflops", peak_gflops()}}.dump());
  });
  StepOptions o;
  apps::Command step = app.add_command("train_step", "A training step of YOLOv6-N in its parts");
  step.add_option("--batch N", o.batch, "images per step").show_default();
  step.add_option("--img SIZE", o.image_size, "image size").show_default();
  step.add_option("--classes N", o.classes, "classes of the model").show_default();
  step.add_option("--runs N", o.runs, "timed steps").show_default();
  step.add_option("--mode NAME", o.mode, "blocks in training, as model.training_mode");
  step.callback([&] { fmt::print("{}\n", train_step(o).dump()); });
  app.require_command();
  return app.run(argc, argv);
}
