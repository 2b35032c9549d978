// SPDX-License-Identifier: Apache-2.0
// Element types.
#pragma once

#include <cstdint>

#include "core/enum_names.h"
#include "core/error.h"

namespace sextant {

// The names are those safetensors uses.
enum class DType { kF32, kF64, kF16, kBF16, kI8, kU8, kI32, kI64 };
constexpr auto enum_names(DType) {
  return make_enum_names<DType>("dtype", {{DType::kF32, "F32"},
                                          {DType::kF64, "F64"},
                                          {DType::kF16, "F16"},
                                          {DType::kBF16, "BF16"},
                                          {DType::kI8, "I8"},
                                          {DType::kU8, "U8"},
                                          {DType::kI32, "I32"},
                                          {DType::kI64, "I64"}});
}

inline int64_t size_of(DType t) {
  switch (t) {
    case DType::kF64:
    case DType::kI64:
      return 8;
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kF16:
    case DType::kBF16:
      return 2;
    case DType::kI8:
    case DType::kU8:
      return 1;
  }
  return 0;
}

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::kF32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::kF64;
};
template <>
struct DTypeOf<int8_t> {
  static constexpr DType value = DType::kI8;
};
template <>
struct DTypeOf<uint8_t> {
  static constexpr DType value = DType::kU8;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType value = DType::kI32;
};
template <>
struct DTypeOf<int64_t> {
  static constexpr DType value = DType::kI64;
};

}  // namespace sextant
