// SPDX-License-Identifier: Apache-2.0
#include "kernels/strided.h"

#include "core/error.h"

namespace sextant::kernels {
namespace {
bool byte(DType type) { return type == DType::kU8 || type == DType::kI8; }
}  // namespace

bool check_average(const GlobalAverageStrided& p) {
  const bool bytes = byte(p.x_type) && byte(p.y_type);
  check(bytes || (p.x_type == p.y_type && !byte(p.x_type)),
        "global_average_strided: {} to {}, must be bytes, or floats of one type", name_of(p.x_type),
        name_of(p.y_type));
  check(!bytes || p.pixels <= kMostAveragedPixels,
        "global_average_strided: {} pixels of bytes, at most {} can be summed in 32 bits", p.pixels,
        kMostAveragedPixels);
  return bytes;
}

bool check_product(const MultiplyStrided& p) {
  const bool bytes = byte(p.a_type) && byte(p.b_type) && byte(p.y_type);
  const bool floats =
      p.a_type == p.y_type && p.b_type == p.y_type &&
      (p.y_type == DType::kF32 || p.y_type == DType::kF16 || p.y_type == DType::kBF16);
  check(bytes || floats, "multiply_strided: {} times {} to {}, must be bytes, or F32, F16 or BF16",
        name_of(p.a_type), name_of(p.b_type), name_of(p.y_type));
  return bytes;
}

void check_average_pool(const AveragePoolStrided& p) {
  const auto inside = [&](int64_t size, int64_t out, int64_t kernel, int64_t before) {
    return before >= 0 && before < kernel && (out - 1) * p.stride - before < size;
  };
  check(p.stride >= 1 && inside(p.height, p.out_height, p.kernel_height, p.top) &&
            inside(p.width, p.out_width, p.kernel_width, p.left) && p.kernel_height <= 255 &&
            p.kernel_width <= 255,
        "average_pool_strided: {} x {} windows of {} x {} with stride {} from {}, {} on {} x {}",
        p.out_height, p.out_width, p.kernel_height, p.kernel_width, p.stride, -p.top, -p.left,
        p.height, p.width);
}

std::array<uint8_t, 256> convert_table(const ConvertStrided& p) {
  check(size_of(p.x_type) == 1 && size_of(p.y_type) == 1,
        "convert_table: {} to {}, must be bytes to bytes", name_of(p.x_type), name_of(p.y_type));
  std::array<uint8_t, 256> table{};
  dispatch_activation(p.activation, [&](auto tag) {
    for (int i = 0; i < 256; ++i) {
      const float q = p.x_type == DType::kU8 ? static_cast<float>(i)
                                             : static_cast<float>(static_cast<int8_t>(i));
      const float v = converted_level(activate<decltype(tag)::value>(q * p.x_scale), p);
      table[static_cast<size_t>(i)] = static_cast<uint8_t>(static_cast<int>(v));
    }
  });
  return table;
}

}  // namespace sextant::kernels
