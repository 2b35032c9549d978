// SPDX-License-Identifier: Apache-2.0
// Tensor: a dtype, a shape and shared, dense, row-major memory on a device.
//
// Pointers refer to memory of the tensor's device. Host code reads and writes host tensors only,
// and copies others with to(). Operations on a device tensor are ordered by compute_stream().
//
// Copying a Tensor shares the memory; clone() copies it. There are no strided views: code that
// needs a part of a tensor copies it (layers) or uses its own pitch (deploy).
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "core/device.h"
#include "core/dtype.h"
#include "core/shape.h"

namespace sextant {

class Tensor {
 public:
  Tensor() = default;  // empty: defined() is false
  // Contents undefined.
  explicit Tensor(Shape shape, DType dtype = DType::kF32, Device device = Device::kCpu);

  static Tensor zeros(Shape shape, DType dtype = DType::kF32, Device device = Device::kCpu);
  static Tensor full(Shape shape, float value, Device device = Device::kCpu);
  template <class T>
  static Tensor from(Shape shape, std::span<const T> values) {
    check(shape.numel() == static_cast<int64_t>(values.size()), "tensor: {} values for shape {}",
          values.size(), shape.str());
    Tensor t(shape, DTypeOf<T>::value);
    std::copy(values.begin(), values.end(), t.data<T>());
    return t;
  }
  template <class T>
  static Tensor from(Shape shape, const std::vector<T>& values) {
    return from(shape, std::span<const T>(values));
  }

  bool defined() const { return storage_ != nullptr; }
  const Shape& shape() const { return shape_; }
  int64_t dim(int i) const { return shape_[i]; }
  DType dtype() const { return dtype_; }
  Device device() const;  // kCpu when empty
  int64_t numel() const { return shape_.numel(); }
  int64_t bytes() const { return numel() * size_of(dtype_); }

  // Throws when T is not the element type.
  template <class T>
  T* data() const {
    check(dtype_ == DTypeOf<T>::value, "tensor: data of dtype {} requested as {}", name_of(dtype_),
          name_of(DTypeOf<T>::value));
    return static_cast<T*>(raw());
  }
  float* f32() const { return data<float>(); }
  void* raw() const;
  // Host tensors only.
  template <class T>
  std::span<T> span() const {
    check_host();
    return {data<T>(), static_cast<size_t>(numel())};
  }

  Tensor clone() const;
  // A copy on `device`, or this tensor itself if it is already there.
  Tensor to(Device device) const;
  // Moves the memory itself to `device`, for every Tensor that shares it: several parts of a model
  // may hold the same parameter. Earlier pointers become invalid.
  void move_to(Device device) const;
  // The same memory under another shape with as many elements.
  Tensor reshape(Shape shape) const;
  // Copies `source`'s values into this memory, across devices too; shapes and dtypes must be equal.
  void copy_from(const Tensor& source) const;
  void fill_zero() const;
  // The only value of a tensor of one element (f32 or f64). Waits for the device.
  double item() const;
  // True when no other Tensor shares the memory.
  bool unique() const { return storage_.use_count() == 1; }

 private:
  struct Storage;
  void check_host() const;
  Shape shape_;
  DType dtype_ = DType::kF32;
  std::shared_ptr<Storage> storage_;
};

// Conversions from and to PyTorch's layouts, which files use. Rank 4, on the host.
Tensor nchw_to_nhwc(const Tensor& t);
Tensor nhwc_to_nchw(const Tensor& t);
// A convolution weight: OIHW <-> OHWI is the same permutation as NCHW <-> NHWC.
// A transposed convolution weight: PyTorch's IOHW <-> ours OHWI.
Tensor iohw_to_ohwi(const Tensor& t);
Tensor ohwi_to_iohw(const Tensor& t);

}  // namespace sextant
