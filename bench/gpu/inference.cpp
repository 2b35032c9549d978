// SPDX-License-Identifier: Apache-2.0
#include "inference.h"

#include <chrono>

#include "apps/model_files/preset_graph.h"
#include "core/device.h"
#include "core/median.h"
#include "deploy/engine/engine.h"

namespace sextant::bench {
namespace {

// Milliseconds of one run: median over rounds of several, each waited for.
template <class F>
double milliseconds(const F& run) {
  constexpr int kRounds = 11, kRuns = 10;
  std::vector<double> times;
  for (int round = -2; round < kRounds; ++round) {
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < kRuns; ++i) run();
    accelerator().synchronize(compute_stream());
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
    if (round >= 0) times.push_back(took.count() / kRuns);
  }
  return median(times);
}

}  // namespace

Json measure_inference(const std::string& preset, int64_t size) {
  const deploy::Graph graph = apps::quantized_preset_graph(preset);
  Json rows = Json::array();
  for (const char* precision : {"fp32", "fp16", "int8"})
    for (const int64_t batch : {1, 32}) {
      deploy::EngineConfig config;
      config.batch = batch;
      config.height = config.width = size;
      config.precision = from_name<deploy::Precision>(precision);
      config.device = Device::kCuda;
      deploy::Engine engine(graph, config);
      const Tensor images = Tensor::zeros({batch, size, size, 3}, DType::kU8).to(Device::kCuda);
      const double ms = milliseconds([&] { engine.run_on_device(images); });
      rows.push_back({{"precision", precision},
                      {"batch", batch},
                      {"ms", ms},
                      {"images_per_second", 1e3 * static_cast<double>(batch) / ms}});
      fmt::print(stderr, "{} {} batch {}: {:.3f} ms\n", preset, precision, batch, ms);
    }
  return rows;
}

}  // namespace sextant::bench
