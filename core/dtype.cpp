#include "core/dtype.h"

#include <array>
#include <utility>

namespace sextant {
namespace {
constexpr std::array<std::pair<DType, std::string_view>, 8> kNames{{{DType::kF32, "F32"},
                                                                    {DType::kF64, "F64"},
                                                                    {DType::kF16, "F16"},
                                                                    {DType::kBF16, "BF16"},
                                                                    {DType::kI8, "I8"},
                                                                    {DType::kU8, "U8"},
                                                                    {DType::kI32, "I32"},
                                                                    {DType::kI64, "I64"}}};
}  // namespace

std::string_view name_of(DType t) {
  for (const auto& [dtype, name] : kNames)
    if (dtype == t) return name;
  fail("unknown dtype {}", static_cast<int>(t));
}

DType dtype_from_name(std::string_view name) {
  for (const auto& [dtype, n] : kNames)
    if (n == name) return dtype;
  fail("dtype '{}' is not one of F32, F64, F16, BF16, I8, U8, I32, I64", name);
}

}  // namespace sextant
