// SPDX-License-Identifier: Apache-2.0
#include "optim/gradient_sum.h"

#include <algorithm>
#include <cstring>

#include "core/profile_range.h"

namespace sextant::optim {
namespace {

void copy_floats(float* to, const float* from, int64_t n, Device device) {
  const int64_t bytes = n * static_cast<int64_t>(sizeof(float));
  if (device == Device::kCpu)
    std::memcpy(to, from, static_cast<size_t>(bytes));
  else
    accelerator().copy(to, from, bytes, compute_stream());
}
void clear_floats(float* to, int64_t n, Device device) {
  if (device == Device::kCpu)
    std::fill_n(to, n, 0.0f);
  else
    accelerator().fill_zero(to, n * static_cast<int64_t>(sizeof(float)), compute_stream());
}

}  // namespace

GradientSum::GradientSum(const std::vector<NamedParameter>& parameters, Communicator& across,
                         int64_t bucket_bytes)
    : across_(across), bucket_bytes_(bucket_bytes) {
  for (const NamedParameter& p : parameters)
    if (p.kind != ParameterKind::kFrozen) parameters_.push_back(p);
}

void GradientSum::settle() {
  std::string mine;
  for (const NamedParameter& p : parameters_) mine += p.variable.grad().defined() ? '1' : '0';
  takes_part_.assign(parameters_.size(), false);
  for (const std::string& theirs : across_.gather(mine)) {
    check(theirs.size() == mine.size(), "gradients: {} parameters on one process, {} on another",
          mine.size(), theirs.size());
    for (size_t i = 0; i < mine.size(); ++i) takes_part_[i] = takes_part_[i] || theirs[i] == '1';
  }
  int64_t room = 0;  // left in the last bucket
  for (size_t i = parameters_.size(); i-- > 0;) {
    if (!takes_part_[i]) continue;
    const int64_t bytes = parameters_[i].variable.data().numel() * int64_t{sizeof(float)};
    if (buckets_.empty() || bytes > room) {
      buckets_.emplace_back();
      room = bucket_bytes_;
    }
    buckets_.back().parameters.push_back(i);
    room -= bytes;
    bytes_ += bytes;
  }
  for (Bucket& b : buckets_) {
    int64_t n = 0;
    for (const size_t i : b.parameters) n += parameters_[i].variable.data().numel();
    b.values = Tensor(Shape{n}, DType::kF32, parameters_[b.parameters[0]].variable.data().device());
  }
}

void GradientSum::sum() {
  const ProfileRange range("sum of gradients");
  if (takes_part_.empty()) settle();
  for (size_t i = 0; i < parameters_.size(); ++i)
    check(takes_part_[i] || !parameters_[i].variable.grad().defined(),
          "gradients: '{}' has one in this step and had none in the first", parameters_[i].name);
  for (const Bucket& b : buckets_) sum(b);
}

void GradientSum::sum(const Bucket& bucket) const {
  const Device device = bucket.values.device();
  float* at = bucket.values.f32();
  for (const size_t i : bucket.parameters) {
    const Variable& v = parameters_[i].variable;
    const int64_t n = v.data().numel();
    const Tensor& grad = v.grad();
    if (grad.defined())
      copy_floats(at, grad.f32(), n, device);
    else
      clear_floats(at, n, device);
    at += n;
  }
  across_.sum(bucket.values.raw(), bucket.values.numel(), DType::kF32, device);
  at = bucket.values.f32();
  for (const size_t i : bucket.parameters) {
    const Variable& v = parameters_[i].variable;
    const int64_t n = v.data().numel();
    // A gradient's memory may be another's too, and then has to stay as it is.
    if (!v.grad().defined() || !v.grad().unique()) {
      v.clear_grad();
      v.add_grad(Tensor(v.shape(), DType::kF32, device));
    }
    copy_floats(v.grad().f32(), at, n, device);
    at += n;
  }
}

}  // namespace sextant::optim
