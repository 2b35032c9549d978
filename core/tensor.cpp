// SPDX-License-Identifier: Apache-2.0
#include "core/tensor.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "core/allocator.h"

namespace sextant {

struct Tensor::Storage {
  Storage(int64_t n, Device where)
      : bytes(n),
        device(where),
        data(where == Device::kCpu ? host_allocate(n) : device_allocate(n)) {}
  ~Storage() { device == Device::kCpu ? host_free(data, bytes) : device_free(data, bytes); }
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;
  int64_t bytes;
  Device device;
  void* data;
};

Tensor::Tensor(Shape shape, DType dtype, Device device)
    : shape_(shape),
      dtype_(dtype),
      storage_(std::make_shared<Storage>(shape.numel() * size_of(dtype), device)) {}

Tensor Tensor::zeros(Shape shape, DType dtype, Device device) {
  Tensor t(shape, dtype, device);
  t.fill_zero();
  return t;
}

Tensor Tensor::full(Shape shape, float value, Device device) {
  Tensor t(shape);
  std::fill_n(t.f32(), t.numel(), value);
  return t.to(device);
}

Device Tensor::device() const { return defined() ? storage_->device : Device::kCpu; }

void* Tensor::raw() const {
  check(defined(), "tensor: data of an empty tensor");
  return storage_->data;
}

void Tensor::check_host() const {
  check(device() == Device::kCpu, "tensor: {} on {} read by the host", shape_.str(),
        name_of(device()));
}

Tensor Tensor::clone() const {
  Tensor t(shape_, dtype_, device());
  t.copy_from(*this);
  return t;
}

Tensor Tensor::to(Device where) const {
  if (where == device() || !defined()) return *this;
  Tensor t(shape_, dtype_, where);
  t.copy_from(*this);
  return t;
}

void Tensor::move_to(Device where) const {
  if (!defined() || where == device()) return;
  const Tensor there = to(where);
  std::swap(storage_->device, there.storage_->device);
  std::swap(storage_->data, there.storage_->data);
}

Tensor Tensor::reshape(Shape shape) const {
  check(shape.numel() == numel(), "reshape: {} to {}", shape_.str(), shape.str());
  Tensor t = *this;
  t.shape_ = shape;
  return t;
}

void Tensor::copy_from(const Tensor& source) const {
  check(shape_ == source.shape_ && dtype_ == source.dtype_, "copy: {} {} into {} {}",
        name_of(source.dtype_), source.shape_.str(), name_of(dtype_), shape_.str());
  void* to = raw();
  const void* from = source.raw();
  const bool to_host = device() == Device::kCpu, from_host = source.device() == Device::kCpu;
  if (to_host && from_host)
    std::memcpy(to, from, static_cast<size_t>(bytes()));
  else if (to_host)
    accelerator().download(to, from, bytes(), compute_stream());
  else if (from_host)
    accelerator().upload(to, from, bytes(), compute_stream());
  else
    accelerator().copy(to, from, bytes(), compute_stream());
}

void Tensor::fill_zero() const {
  if (device() == Device::kCpu)
    std::memset(raw(), 0, static_cast<size_t>(bytes()));
  else
    accelerator().fill_zero(raw(), bytes(), compute_stream());
}

double Tensor::item() const {
  check(numel() == 1, "item: shape {} does not have exactly one element", shape_.str());
  if (device() != Device::kCpu) return to(Device::kCpu).item();
  return dtype_ == DType::kF64 ? *data<double>() : *f32();
}

namespace {

// out[i] = in[..] with output dimension d taken from input dimension perm[d].
template <class T>
void permute4(const T* in, T* out, const Shape& s, const std::array<int, 4>& perm) {
  const std::array<int64_t, 4> stride{s[1] * s[2] * s[3], s[2] * s[3], s[3], 1};
  int64_t o = 0;
  for (int64_t a = 0; a < s[perm[0]]; ++a)
    for (int64_t b = 0; b < s[perm[1]]; ++b)
      for (int64_t c = 0; c < s[perm[2]]; ++c) {
        const T* p = in + a * stride[perm[0]] + b * stride[perm[1]] + c * stride[perm[2]];
        for (int64_t d = 0; d < s[perm[3]]; ++d) out[o++] = p[d * stride[perm[3]]];
      }
}

Tensor permuted(const Tensor& t, const std::array<int, 4>& perm) {
  const Shape& s = t.shape();
  check(s.rank() == 4 && t.device() == Device::kCpu, "permute: {} on {}, expected rank 4 on cpu",
        s.str(), name_of(t.device()));
  Tensor out(Shape{s[perm[0]], s[perm[1]], s[perm[2]], s[perm[3]]}, t.dtype());
  switch (size_of(t.dtype())) {
    case 1:
      permute4(static_cast<const uint8_t*>(t.raw()), static_cast<uint8_t*>(out.raw()), s, perm);
      break;
    case 2:
      permute4(static_cast<const uint16_t*>(t.raw()), static_cast<uint16_t*>(out.raw()), s, perm);
      break;
    case 4:
      permute4(static_cast<const uint32_t*>(t.raw()), static_cast<uint32_t*>(out.raw()), s, perm);
      break;
    default:
      permute4(static_cast<const uint64_t*>(t.raw()), static_cast<uint64_t*>(out.raw()), s, perm);
  }
  return out;
}

}  // namespace

Tensor nchw_to_nhwc(const Tensor& t) { return permuted(t, {0, 2, 3, 1}); }
Tensor nhwc_to_nchw(const Tensor& t) { return permuted(t, {0, 3, 1, 2}); }
Tensor iohw_to_ohwi(const Tensor& t) { return permuted(t, {1, 2, 3, 0}); }
Tensor ohwi_to_iohw(const Tensor& t) { return permuted(t, {3, 0, 1, 2}); }

}  // namespace sextant
