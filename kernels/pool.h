// SPDX-License-Identifier: Apache-2.0
// Max- and average-pooling, nearest up-sampling, channel copies, conversion of image bytes to
// floats. NHWC, tensors of type `dtype`. CPU: f32 only, but copies of any type. CUDA: F32, F16,
// BF16, copies of any type; sums are f32. There results equal the CPU's bit for bit (in 16 bits:
// the CPU's f32 results, rounded), for tensors of up to 2^31 elements, or 2^33 where the channels
// (and pitches) are multiples of four (eight in 16 bits) and the tensors aligned to 16 bytes; Error
// above.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace sextant::kernels {

// Windows are clipped at the border (padding never wins), as PyTorch's MaxPool2d.
struct MaxPoolForward {
  int64_t n = 1, h = 1, w = 1, c = 1;
  int64_t kernel = 2, stride = 2, pad = 0;
  const void* x = nullptr;
  void* y = nullptr;
  int32_t* index = nullptr;  // position h*w of the winner (the first in row order), or null
  DType dtype = DType::kF32;
  int64_t oh() const { return (h + 2 * pad - kernel) / stride + 1; }
  int64_t ow() const { return (w + 2 * pad - kernel) / stride + 1; }
};

struct MaxPoolBackward {
  int64_t n = 1, h = 1, w = 1, c = 1, oh = 1, ow = 1;
  const void* dy = nullptr;
  const int32_t* index = nullptr;
  void* dx = nullptr;                       // overwritten, unless accumulate
  int64_t kernel = 0, stride = 0, pad = 0;  // as forward; the CPU does not read them
  bool accumulate = false;                  // add to dx
  DType dtype = DType::kF32;
};

// y[0] = pool(x), y[1] = pool(y[0]), y[2] = pool(y[1]): max-pools of stride 1 and the same odd
// kernel, padded to keep the size (SPPF). As three max_pool_forward() calls, bit for bit.
struct ChainedMaxPools {
  int64_t n = 1, h = 1, w = 1, c = 1, kernel = 5;
  const void* x = nullptr;
  void* y[3] = {};
  int32_t* index[3] = {};  // of each pool in its own input; all null when not wanted
  DType dtype = DType::kF32;
};

// Mean of the kernel x kernel neighbourhood (odd kernel, stride 1); outside the image is zero and
// counts, as PyTorch's AvgPool2d. The operation is its own adjoint: backward is the same on dy.
struct AveragePool {
  int64_t n = 1, h = 1, w = 1, c = 1;
  int64_t kernel = 3;
  const void* x = nullptr;
  void* y = nullptr;  // overwritten
  DType dtype = DType::kF32;
};

// Forward, from x [n,h,w,c] to y [n, h * scale, w * scale, c]:
//   y[n, i, j, c] = x[n, i / scale, j / scale, c]
// Backward sums, from dy to dx, overwritten; n, h, w, c are x's.
struct Upsample {
  int64_t n = 1, h = 1, w = 1, c = 1, scale = 2;
  const void* from = nullptr;
  void* to = nullptr;
  DType dtype = DType::kF32;
};

// to[r, to_offset + k] = from[r, from_offset + k] for k < channels; pitches are channels per row.
struct CopyChannels {
  int64_t rows = 0, channels = 0;
  const void* from = nullptr;
  int64_t from_pitch = 0, from_offset = 0;
  void* to = nullptr;
  int64_t to_pitch = 0, to_offset = 0;
  DType dtype = DType::kF32;
};

// y = x / 255
struct BytesToFloat {
  const uint8_t* x = nullptr;
  float* y = nullptr;
  int64_t n = 0;
};

}  // namespace sextant::kernels
