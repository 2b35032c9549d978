// SPDX-License-Identifier: Apache-2.0
#include "apps/model_files/preset_graph.h"

#include <algorithm>
#include <cmath>

#include "core/rng.h"
#include "deploy/engine/engine.h"
#include "deploy/graph/passes.h"
#include "deploy/graph/ranges.h"
#include "deploy/graph/trace.h"
#include "models/yolov6.h"

namespace sextant::apps {

deploy::Graph preset_graph(const std::string& preset) {
  Yolov6 model(yolov6_preset(preset), 1);
  model.train(false);
  deploy::NamedVariables names;
  for (const auto& p : model.parameters()) names.emplace_back(p.name, p.variable);
  return deploy::fuse(deploy::trace_model([&](const Variable& x) { return model.predict(x); },
                                          names, {1, 64, 64, 3}));
}

deploy::Graph quantized_preset_graph(const std::string& preset) {
  deploy::Graph graph = preset_graph(preset);
  deploy::unify_ranges(graph);
  Rng rng(1);
  const Tensor images(Shape{1, 64, 64, 3}, DType::kU8);
  for (auto& v : images.span<uint8_t>()) v = static_cast<uint8_t>(rng.below(256));
  std::vector<float> amax(graph.tensors.size(), 0.0f);
  deploy::Engine engine(graph, {.batch = 1, .height = 64, .width = 64});
  engine.run(images, [&](const deploy::TensorView& v) {
    float& largest = amax[static_cast<size_t>(v.info->group)];
    const Tensor values = v.values();
    for (const float x : values.span<float>()) largest = std::max(largest, std::abs(x));
  });
  deploy::assign_ranges(graph, amax);
  deploy::set_weight_scales(graph);
  return graph;
}

}  // namespace sextant::apps
