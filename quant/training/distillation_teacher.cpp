// SPDX-License-Identifier: Apache-2.0
#include "quant/training/distillation_teacher.h"

namespace sextant::quant {

DistillationTeacher::DistillationTeacher(deploy::Graph graph, std::vector<int> features,
                                         Device device)
    : graph_(std::move(graph)), features_(std::move(features)), device_(device) {
  check(graph_.decode() != nullptr, "{}: a teacher needs a decode node", graph_.source);
}

DistillationTeacher::Output DistillationTeacher::run(const Tensor& images) {
  const std::vector<int64_t> size{images.dim(0), images.dim(1), images.dim(2)};
  auto found = engines_.find(size);
  if (found == engines_.end())
    found = engines_
                .emplace(size, deploy::Engine(graph_, {.batch = size[0],
                                                       .height = size[1],
                                                       .width = size[2],
                                                       .device = device_}))
                .first;
  const deploy::Node& decode = *graph_.decode();
  const std::vector<int>& maps = decode.inputs;
  const size_t per_level = decode.as<deploy::DecodeAttributes>().maps_per_level();
  Output out;
  std::vector<Tensor>* const kinds[] = {&out.cls_logits, &out.reg, &out.objectness};
  for (size_t k = 0; k < per_level; ++k) kinds[k]->resize(maps.size() / per_level);
  out.features.resize(features_.size());
  found->second.run_on_device(images, [&](const deploy::TensorView& view) {
    for (size_t i = 0; i < maps.size(); ++i)
      if (maps[i] == view.id) (*kinds[i % per_level])[i / per_level] = view.values();
    for (size_t f = 0; f < features_.size(); ++f)
      if (features_[f] == view.id) out.features[f] = view.values();
  });
  return out;
}

}  // namespace sextant::quant
