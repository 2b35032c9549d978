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
  for (size_t k = 0; k < buckets_.size(); ++k)
    for (const size_t i : buckets_[k].parameters) bucket_of_[parameters_[i].variable.id()] = k;
  // Every process has its second communicator or none has.
  if (!buckets_.empty() && buckets_[0].values.device() == Device::kCpu && across_.second())
    thread_ = std::thread([this] { serve(); });
}

GradientSum::~GradientSum() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void GradientSum::sum() {
  const ProfileRange range("sum of gradients");
  observer_.reset();
  if (takes_part_.empty()) settle();
  for (size_t i = 0; i < parameters_.size(); ++i)
    check(takes_part_[i] || !parameters_[i].variable.grad().defined(),
          "gradients: '{}' has one in this step and had none in the first", parameters_[i].name);
  while (started_ < buckets_.size()) start_next();
  if (thread_.joinable()) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return summed_ == wanted_ || error_; });
    if (error_) std::rethrow_exception(error_);
    wanted_ = summed_ = 0;
  }
  started_ = 0;
  for (const Bucket& b : buckets_) spread(b);
}

void GradientSum::overlap() {
  if (buckets_.empty() || buckets_[0].values.device() != Device::kCpu) return;
  for (Bucket& b : buckets_) b.left = std::ssize(b.parameters);
  observer_.emplace([this](const void* id) { completed(id); });
}

void GradientSum::completed(const void* id) {
  const auto at = bucket_of_.find(id);
  if (at == bucket_of_.end()) return;
  --buckets_[at->second].left;
  while (started_ < buckets_.size() && buckets_[started_].left <= 0) {
    start_next();
    ++early_;
  }
}

// Where there is a thread for it, returns at once.
void GradientSum::start_next() {
  Bucket& bucket = buckets_[started_++];
  collect(bucket);
  if (!thread_.joinable())
    return across_.sum(bucket.values.raw(), bucket.values.numel(), DType::kF32,
                       bucket.values.device());
  {
    const std::lock_guard lock(mutex_);
    ++wanted_;
  }
  changed_.notify_all();
}

void GradientSum::serve() {
  Communicator& across = *across_.second();
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stopping_ || (summed_ < wanted_ && !error_); });
    if (stopping_) return;
    const Tensor& values = buckets_[summed_].values;
    lock.unlock();
    std::exception_ptr error;
    try {
      across.sum(values.raw(), values.numel(), DType::kF32, values.device());
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    error_ = error;
    ++summed_;
    changed_.notify_all();
  }
}

void GradientSum::collect(const Bucket& bucket) const {
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
}

void GradientSum::spread(const Bucket& bucket) const {
  const Device device = bucket.values.device();
  const float* at = bucket.values.f32();
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
