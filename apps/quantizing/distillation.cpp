// SPDX-License-Identifier: Apache-2.0
#include "apps/quantizing/distillation.h"

#include "apps/quantizing/qat_source.h"
#include "kernels/backend.h"
#include "layers/distill.h"

namespace sextant::apps {

std::function<void(LossItems&)> LossParts::fetch(loss_detail::AsyncTransfers& transfers) const {
  if (parts_.empty()) return [](LossItems&) {};
  const Device device = parts_[0].value.data().device();
  const int64_t n = std::ssize(parts_);
  const Tensor values(Shape{n}, DType::kF32, device);
  std::vector<double LossItems::*> items;
  for (const Part& part : parts_) {
    const int64_t i = std::ssize(items);
    kernels::backend(device).copy_channels(
        {1, 1, part.value.data().raw(), 1, 0, values.raw(), n, i, DType::kF32});
    items.push_back(part.item);
  }
  const auto transfer = device == Device::kCpu ? nullptr : transfers.next();
  if (transfer) transfer->download(values);
  return [items, values, transfer](LossItems& to) {
    const auto* v =
        transfer ? reinterpret_cast<const float*>(transfer->downloaded()) : values.f32();
    for (size_t i = 0; i < items.size(); ++i) to.*items[i] += static_cast<double>(v[i]);
  };
}

Distillation::Distillation(const DistillConfig& config, const deploy::Graph& model,
                           const deploy::Graph& start, const std::vector<int>& features,
                           const Tensor& image, Device device)
    : config_(config), teacher_(model, features, device) {
  if (features.empty()) return;
  for (const Tensor& f : channel_factors(model, start, features, image)) {
    BatchNormState norm;
    if (f.defined()) {
      norm.gamma = Variable(f.to(device));
      norm.beta = Variable(Tensor::zeros(f.shape()).to(device));
      norm.running_mean = Tensor::zeros(f.shape()).to(device);
      norm.running_var = Tensor::full(f.shape(), 1.0f).to(device);
    }
    channels_.push_back(norm);
  }
}

Variable Distillation::in_teachers_size(const Variable& feature, size_t f) const {
  const BatchNormState& norm = channels_[f];
  if (!norm.gamma.defined()) return feature;
  return batch_norm(feature, norm, {.eps = 0.0f, .training = false});
}

void Distillation::add_parts(const Tensor& images, const quant::TrainableGraph::Output& out,
                             double share, LossParts& parts) {
  const auto add = [&](double LossItems::*item, const Variable& part, double weight) {
    parts.add(item, scale(part, static_cast<float>(weight * share)));
  };
  const auto taught = teacher_.run(images);
  for (size_t f = 0; f < out.features.size(); ++f)
    add(&LossItems::cwd,
        channel_wise_distillation(in_teachers_size(out.features[f], f), taught.features[f],
                                  config_.cwd_temperature),
        config_.cwd_weight);
  if (config_.logits_weight == 0) return;
  add(&LossItems::cls,
      score_distillation(out.cls_logits, taught.cls_logits, config_.logits_temperature),
      config_.logits_weight);
  if (!out.objectness.empty())
    add(&LossItems::objectness,
        score_distillation(out.objectness, taught.objectness, config_.logits_temperature),
        config_.logits_weight);
}

}  // namespace sextant::apps
