// SPDX-License-Identifier: Apache-2.0
#include "apps/quantizing/calibrate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "core/progress.h"
#include "data/loading/loader.h"
#include "deploy/detect/choices.h"
#include "deploy/detect/evaluation.h"
#include "deploy/graph/ranges.h"
#include "quant/layers/float_layers.h"

namespace sextant::apps {

namespace {

// Loads the first readable image of samples [begin, end); an undefined Tensor if there is none.
Tensor first_good(const data::Dataset& dataset, int64_t begin, int64_t end,
                  const data::LetterboxOptions& canvas) {
  for (int64_t i = begin; i < end; ++i) {
    const data::Batch batch = data::load_batch(dataset, i, i + 1, canvas);
    if (batch.size() == 1) return batch.images;
  }
  return {};
}

}  // namespace

quant::ImageSource spread_images(const data::Dataset& dataset, int64_t count, int image_size,
                                 const deploy::Graph& graph, int64_t batch) {
  const int64_t total = std::min(count, dataset.size());
  const data::LetterboxOptions canvas = deploy::canvas_for(graph, image_size);
  return [&dataset, total, canvas, batch, next = int64_t{0}, found = int64_t{0}]() mutable {
    std::vector<Tensor> images;
    for (; next < total && std::ssize(images) < batch; ++next) {
      const Tensor one = first_good(dataset, next * dataset.size() / total,
                                    (next + 1) * dataset.size() / total, canvas);
      if (one.defined()) images.push_back(one);
    }
    found += std::ssize(images);
    check(found > 0, "{}: none of the images of split '{}' can be decoded", dataset.path,
          dataset.split);
    if (images.empty()) return Tensor();
    const Tensor result(Shape{std::ssize(images), canvas.height, canvas.width, 3}, DType::kU8);
    uint8_t* to = result.data<uint8_t>();
    for (const Tensor& one : images) to = std::ranges::copy(one.span<uint8_t>(), to).out;
    return result;
  };
}

Tensor spread_batch(const data::Dataset& dataset, int64_t count, int image_size,
                    const deploy::Graph& graph) {
  return spread_images(dataset, count, image_size, graph, count)();
}

deploy::Graph with_ranges(deploy::Graph graph, const std::string& data, int image_size,
                          const Calibration& calibration, const std::vector<std::string>& layers) {
  quant::check_layers(graph, layers);
  if (graph.quantized()) {
    const auto rounded = [&](const deploy::Node& n) { return deploy::runs_in_int8(graph, n); };
    if (std::ranges::any_of(graph.nodes, rounded))
      print_notice(graph.source +
                   ": holds rounded weights, so a layer in float recovers only the rounding of its "
                   "activations; give the float model to recover both");
    return graph;
  }
  const data::Dataset dataset = deploy::open_dataset_for(graph, data, calibration.split);
  return quant::quantize(graph, spread_images(dataset, calibration.ptq.images, image_size, graph),
                         calibration.ptq);
}

}  // namespace sextant::apps
