// SPDX-License-Identifier: Apache-2.0
// Kernels that call op(i) for every i < n, in any order.
#pragma once

#include "kernels/cuda/device/pack.cuh"

namespace sextant::kernels::cuda {

inline constexpr int kEachThreads = 256;

template <class Op>
__global__ void __launch_bounds__(kEachThreads) each_kernel(Op op, uint32_t n) {
  const uint32_t threads = gridDim.x * kEachThreads;
  for (uint32_t i = blockIdx.x * kEachThreads + threadIdx.x; i < n; i += threads) op(i);
}

// n below 2^31, so that an index never wraps around.
template <class Op>
void for_each_item(const char* name, const Op& op, int64_t n, Stream stream) {
  if (n <= 0) return;
  check(n < (int64_t{1} << 31), "{}: {} items for the device, must be below 2^31", name, n);
  launch(SEXTANT_KERNEL(each_kernel<Op>), grid_stride_blocks(n, kEachThreads), kEachThreads, 0,
         stream, op, static_cast<uint32_t>(n));
}

// Items as pieces of pixels: the image, row, column and first channel of item i, where an item is
// `width` neighbouring channels of a pixel.
struct PixelItems {
  Divider<uint32_t> pieces, columns, rows;
  uint32_t width;

  PixelItems(int64_t height, int64_t width_of_image, int64_t channels, int width_of_item)
      : pieces(channels / width_of_item),
        columns(width_of_image),
        rows(height),
        width(static_cast<uint32_t>(width_of_item)) {}

  struct Place {
    int image, y, x, channel;
  };
  __device__ __forceinline__ Place place(uint32_t i) const {
    const uint32_t pixel = pieces.quotient(i);
    const uint32_t row = columns.quotient(pixel);
    const uint32_t image = rows.quotient(row);
    return {static_cast<int>(image), static_cast<int>(row - image * rows.divisor),
            static_cast<int>(pixel - row * columns.divisor),
            static_cast<int>((i - pixel * pieces.divisor) * width)};
  }
};

}  // namespace sextant::kernels::cuda
