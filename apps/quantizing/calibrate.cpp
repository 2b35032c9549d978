#include "apps/quantizing/calibrate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "data/loading/loader.h"
#include "deploy/graph/ranges.h"
#include "quant/layers/float_layers.h"

namespace sextant::apps {

quant::ImageSource spread_images(const data::Dataset& dataset, int64_t count, int image_size,
                                 int64_t gray_border, int64_t batch) {
  const int64_t total = std::min(count, dataset.size());
  return [&dataset, total, image_size, gray_border, batch, next = int64_t{0}]() mutable {
    const int64_t images = std::min(batch, total - next);
    if (images == 0) return Tensor();
    const Tensor result(Shape{images, image_size, image_size, 3}, DType::kU8);
    uint8_t* to = result.data<uint8_t>();
    for (const int64_t end = next + images; next < end; ++next) {
      const int64_t i = next * dataset.size() / total;
      const Tensor one =
          data::load_batch(dataset, i, i + 1, image_size, static_cast<int>(gray_border)).images;
      to = std::ranges::copy(one.span<uint8_t>(), to).out;
    }
    return result;
  };
}

Tensor spread_batch(const data::Dataset& dataset, int64_t count, int image_size,
                    int64_t gray_border) {
  return spread_images(dataset, count, image_size, gray_border, count)();
}

deploy::Graph with_ranges(deploy::Graph graph, const std::string& data, int image_size,
                          const Calibration& calibration, const std::vector<std::string>& layers) {
  quant::check_layers(graph, layers);
  if (graph.quantized()) {
    const auto rounded = [&](const deploy::Node& n) { return deploy::runs_in_int8(graph, n); };
    if (std::ranges::any_of(graph.nodes, rounded))
      fmt::print(stderr,
                 "{}: holds rounded weights, so a layer in float gets back the rounding of its "
                 "activations only; give the float model for the whole\n",
                 graph.source);
    return graph;
  }
  const data::Dataset dataset = data::open_dataset(data, calibration.split);
  return quant::quantize(
      graph, spread_images(dataset, calibration.ptq.images, image_size, graph.gray_border),
      calibration.ptq);
}

}  // namespace sextant::apps
