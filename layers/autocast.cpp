// SPDX-License-Identifier: Apache-2.0
#include "layers/autocast.h"

#include "layers/placement.h"

namespace sextant {
namespace {

thread_local Autocast* current = nullptr;

Tensor converted(const Tensor& t, DType type) {
  const Tensor out(t.shape(), type, t.device());
  on(t).cast({t.raw(), t.dtype(), out.raw(), type, t.numel()});
  return out;
}

}  // namespace

Autocast::Autocast(DType type) : type_(type), outer_(current) {
  check(type == DType::kF32 || type == DType::kF16 || type == DType::kBF16,
        "autocast: type {}, must be F32, F16 or BF16", name_of(type));
  current = this;
}
Autocast::~Autocast() { current = outer_; }

Variable cast(const Variable& x, DType type) {
  const DType before = x.data().dtype();
  if (before == type) return x;
  return make_result("cast", converted(x.data(), type), {x},
                     [before](const Tensor& dy, const std::vector<bool>&) {
                       return std::vector<Tensor>{converted(dy, before)};
                     });
}

Variable as_operand(const Variable& x) {
  const bool casts =
      current && x.data().dtype() == DType::kF32 && x.data().device() != Device::kCpu;
  return casts ? cast(x, current->type_) : x;
}

Tensor weight_as(const Variable& weight, DType type) {
  if (weight.data().dtype() == type) return weight.data();
  if (!current) return converted(weight.data(), type);
  auto& [kept, tensor] = current->weights_[weight.id()];
  if (!tensor.defined() || tensor.dtype() != type) {
    kept = weight;
    tensor = converted(weight.data(), type);
  }
  return tensor;
}

}  // namespace sextant
