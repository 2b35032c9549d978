// SPDX-License-Identifier: Apache-2.0
// Where a function of the layers runs: on the device of its inputs. Its results lie there too and
// have the inputs' type (layers/autocast.h).
#pragma once

#include "core/variable.h"
#include "kernels/backend.h"

namespace sextant {

// Contents undefined; of t's type, on t's device.
inline Tensor like(const Tensor& t) { return Tensor(t.shape(), t.dtype(), t.device()); }
inline Tensor like(const Tensor& t, Shape shape) { return Tensor(shape, t.dtype(), t.device()); }
inline Tensor f32_like(const Tensor& t, Shape shape) {
  return Tensor(shape, DType::kF32, t.device());
}

inline const kernels::Backend& on(const Tensor& t) { return kernels::backend(t.device()); }

inline void check_together(const char* name, const Tensor& first, const Tensor& t) {
  check(!t.defined() || t.device() == first.device(),
        "{}: inputs on {} and on {}, expected one device", name, name_of(first.device()),
        name_of(t.device()));
}
inline void check_together(const char* name, const Tensor& first, const Variable& v) {
  check_together(name, first, v.data());
}
// For tensors that are added or concatenated, which must have one type.
inline void check_same_type(const char* name, const Tensor& first, const Tensor& t) {
  check(t.dtype() == first.dtype(), "{}: inputs of type {} and {}, expected one type", name,
        name_of(first.dtype()), name_of(t.dtype()));
}
template <class T>
void check_together(const char* name, const Tensor& first, const std::vector<T>& list) {
  for (const T& t : list) check_together(name, first, t);
}

// The kernels for a function of these inputs: Tensors, Variables and vectors of them; undefined
// ones are ignored. Throws Error naming the function when they are not all on the first one's
// device.
template <class... Rest>
const kernels::Backend& kernels_for(const char* name, const Variable& first, const Rest&... rest) {
  (check_together(name, first.data(), rest), ...);
  return on(first.data());
}

}  // namespace sextant
