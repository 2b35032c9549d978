// SPDX-License-Identifier: Apache-2.0
// Quantization-aware training on several processes (threads stand in for them).
#include "apps/quantizing/qat.h"
#include "apps/training/tiny_run.h"
#include "apps/training/trainer.h"
#include "support/same_tensors.h"
#include "support/thread_processes.h"

namespace {

using namespace sextant;
using namespace sextant::apps;

double qat_states_differ(const std::filesystem::path& a, const std::filesystem::path& b) {
  const SafeTensors x = load_safetensors(a), y = load_safetensors(b);
  double most = 0, largest = 0;
  for (const auto& [name, t] : x.tensors) {
    if (!name.starts_with("model.") || t.dtype() != DType::kF32) continue;
    most = std::max(most, test::max_difference(t, y.at(name)));
    for (const float v : t.span<float>()) largest = std::max(largest, std::abs(double{v}));
  }
  REQUIRE(largest > 0);
  return most / largest;
}

}  // namespace

TEST_CASE("quantization-aware training on several processes is that of one, and resumes") {
  const test::TemporaryFolder folder;
  test::make_shapes(folder / "data", 11, 4);
  TrainConfig base = test::tiny_config(folder / "data");
  base.epochs = 1;
  train(base, folder / "base", false);
  for (const bool learn : {false, true}) {
    INFO("learned scales: " << learn);
    // Of the last batch, two images, the third process has none.
    const Json json = {{"seed", 3},
                       {"model", (folder / "base" / "last.safetensors").string()},
                       {"batch", 3},
                       {"epochs", 2},
                       {"learn_scales", learn},
                       {"calibration", {{"images", 3}, {"method", "max"}}},
                       {"data", {{"path", (folder / "data").string()}}},
                       {"solver", {{"lr0", 0.001}}}};
    const QatConfig config = parse_qat_config(json, "test", "");
    const std::string kind = learn ? "learn" : "frozen";
    const auto on = [&](int n, const std::string& name, bool resume, int64_t stop) {
      test::on_processes(
          n, [&](Communicator&) { train_qat(config, folder / (kind + name), resume, stop); });
    };
    train_qat(config, folder / (kind + "one"), false);
    on(2, "two", false, 0);
    on(3, "three", false, 0);
    on(3, "parts", false, 1);
    on(3, "parts", true, 0);
    const auto state = [&](const std::string& name) {
      return folder / (kind + name) / "resume.safetensors";
    };
    CHECK(qat_states_differ(state("one"), state("two")) < 1e-4);
    CHECK(qat_states_differ(state("one"), state("three")) < 1e-4);
    CHECK(qat_states_differ(state("three"), state("parts")) == 0);
  }
}
