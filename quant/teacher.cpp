#include "quant/teacher.h"

namespace sextant::quant {

Teacher::Teacher(deploy::Graph graph, std::vector<int> features)
    : graph_(std::move(graph)), features_(std::move(features)) {
  check(!graph_.nodes.empty() && graph_.nodes.back().kind == deploy::NodeKind::kDecode,
        "{}: a teacher needs a decode node", graph_.source);
}

Teacher::Output Teacher::run(const Tensor& images) {
  const std::vector<int64_t> size{images.dim(0), images.dim(1), images.dim(2)};
  auto found = engines_.find(size);
  if (found == engines_.end())
    found = engines_
                .emplace(size, deploy::Engine(
                                   graph_, {.batch = size[0], .height = size[1], .width = size[2]}))
                .first;
  const std::vector<int>& maps = graph_.nodes.back().inputs;
  Output out;
  out.cls_logits.resize(maps.size() / 2);
  out.reg.resize(maps.size() / 2);
  out.features.resize(features_.size());
  found->second.run(images, [&](const deploy::TensorView& view) {
    for (size_t i = 0; i < maps.size(); ++i)
      if (maps[i] == view.id) (i % 2 == 0 ? out.cls_logits : out.reg)[i / 2] = view.values();
    for (size_t f = 0; f < features_.size(); ++f)
      if (features_[f] == view.id) out.features[f] = view.values();
  });
  return out;
}

}  // namespace sextant::quant
