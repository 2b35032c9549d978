// SPDX-License-Identifier: Apache-2.0
// The operations of a deployed network between convolutions: moving, pooling, adding, separate
// activations, conversions.
//
// A tensor is rows (pixels) of `channels` neighbouring elements. A pitch is the distance from one
// row to the next: the channels when dense, more in a slice of a concat's buffer, into which a
// producer writes directly. The elements between rows are neither read nor written. Types are F32,
// F16, U8 and I8; any other throws Error, but the product and the mean, which training uses too, take
// BF16 on CUDA. CUDA: as on the CPU, bit for bit for integers and moved
// bytes (except behind an exponential); throws Error above 2^31 pieces of rows.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>

#include "core/dtype.h"
#include "kernels/math/activation.h"

namespace sextant::kernels {

// --- moving, of any type: `bytes` of each row; pitches in bytes ---------------------------------

struct CopyStrided {
  const void* source = nullptr;
  void* destination = nullptr;
  int64_t rows = 0;
  int64_t bytes = 0;
  int64_t source_pitch = 0, destination_pitch = 0;
};

// The last step of a transposed convolution of stride `scale`, after its products: source
// [N,H,W,scale,scale_width,bytes], dense, to destination [N, scale H - crop_bottom,
// scale_width W - crop_right, bytes]. Crops are smaller than the scales.
struct DepthToSpace {
  const void* source = nullptr;
  void* destination = nullptr;
  int64_t batch = 0, height = 0, width = 0;  // of the source
  int64_t bytes = 0;
  int64_t destination_pitch = 0;
  int64_t scale = 2;
  int64_t crop_bottom = 0, crop_right = 0;
  int64_t scale_width = 0;  // 0: scale
  int64_t columns() const { return scale_width > 0 ? scale_width : scale; }
  int64_t out_height() const { return scale * height - crop_bottom; }
  int64_t out_width() const { return columns() * width - crop_right; }
};

// Nearest-neighbour upsampling by a whole factor.
struct UpsampleStrided {
  const void* source = nullptr;
  void* destination = nullptr;
  int64_t batch = 0, height = 0, width = 0;  // of the source
  int64_t scale = 2;
  int64_t bytes = 0;
  int64_t source_pitch = 0, destination_pitch = 0;
};

// Channels by their numbers: element c of each row is element channels[c] of the source's row.
// Elements of `bytes` bytes (1, 2 or 4); pitches in elements.
struct GatherChannels {
  const void* source = nullptr;
  void* destination = nullptr;
  const int32_t* channels = nullptr;  // [count], in the kernel's memory
  int64_t rows = 0, count = 0;
  int64_t bytes = 4;
  int64_t source_pitch = 0, destination_pitch = 0;
};

// --- arithmetic; pitches in elements ------------------------------------------------------------

// Max over kernel x kernel windows; outside the image does not count.
struct MaxPoolStrided {
  const void* source = nullptr;
  void* destination = nullptr;
  DType dtype = DType::kF32;
  int64_t batch = 0, height = 0, width = 0, channels = 0;
  int64_t out_height = 0, out_width = 0;
  int64_t kernel = 1, stride = 1, padding = 0;
  int64_t source_pitch = 0, destination_pitch = 0;
};

// s / n rounded half to even, for n > 0.
SEXTANT_HD int rounded_quotient(int s, int n) {
  int q = s / n, twice = 2 * (s % n);
  if (twice < 0) {
    --q;
    twice += 2 * n;
  }
  return q + static_cast<int>(twice > n || (twice == n && q % 2 != 0));
}

// Mean over windows; outside the image does not count. The first window begins at (-top, -left);
// each has a pixel of the image. Floats are summed in f32, in row order; integers (one scale for
// both), and with `round` F32 that holds integers (a simulation), are rounded_quotient()s.
struct AveragePoolStrided {
  const void* source = nullptr;
  void* destination = nullptr;
  DType dtype = DType::kF32;
  int64_t batch = 0, height = 0, width = 0, channels = 0;
  int64_t out_height = 0, out_width = 0;
  int64_t kernel_height = 1, kernel_width = 1, stride = 1, top = 0, left = 0;
  int64_t source_pitch = 0, destination_pitch = 0;
  bool round = false;
};
// Throws Error for a window outside the image, or of more pixels than an int can sum.
void check_average_pool(const AveragePoolStrided& p);

// y = a + factor * b in one fused multiply-add; integers (one scale for all three) are rounded half
// to even and saturate. F32 with `low` < `high` holds integers (a simulation): rounded, clamped.
struct AddStrided {
  const void* a = nullptr;
  const void* b = nullptr;
  void* y = nullptr;
  DType dtype = DType::kF32;
  int64_t rows = 0, channels = 0;
  int64_t a_pitch = 0, b_pitch = 0, y_pitch = 0;
  float low = 0, high = 0;
  float factor = 1.0f;
};

// y = a * b * factor; a has a row for each of y's, or with a pitch of 0 one; b is as large as y, or with `b_per_image` one row for all rows of an image.
// Floats are of one type; each of three byte tensors has its own. With `round` the product is rounded
// half to even and clamped to [low, high]; bytes always are.
struct MultiplyStrided {
  const void* a = nullptr;
  const void* b = nullptr;
  void* y = nullptr;
  DType a_type = DType::kF32, b_type = DType::kF32, y_type = DType::kF32;
  int64_t batch = 0, pixels = 0, channels = 0;
  bool b_per_image = false;
  int64_t a_pitch = 0, b_pitch = 0, y_pitch = 0;
  float factor = 1.0f;
  bool round = false;
  float low = 0, high = 0;
};

// Whether all three tensors are bytes. Throws Error unless they are, or are floats of one type.
bool check_product(const MultiplyStrided& p);

// y = act(x * x_scale), or with `round` clamp(round_half_even(act(x * x_scale) / y_scale), low,
// high), where NaN becomes low: an activation on its own, and with the identity every conversion.
struct ConvertStrided {
  const void* x = nullptr;
  void* y = nullptr;
  DType x_type = DType::kF32, y_type = DType::kF32;
  int64_t rows = 0, channels = 0;
  int64_t x_pitch = 0, y_pitch = 0;
  float x_scale = 1.0f;
  Activation activation = Activation::kIdentity;
  bool round = false;  // y holds integers
  float y_scale = 1.0f;
  float low = 0, high = 0;
  // For bytes to bytes: y by x's bit pattern, [256], in the kernel's memory; of the fields above
  // only pointers, types and geometry are read. convert_table() makes one.
  const uint8_t* table = nullptr;
};
// Bits of y for each value of x; both types are bytes.
std::array<uint8_t, 256> convert_table(const ConvertStrided& p);

// The level of act(x * x_scale).
SEXTANT_HD float converted_level(float v, const ConvertStrided& p) {
  v = std::nearbyint(v / p.y_scale);
  return v >= p.low ? (v <= p.high ? v : p.high) : p.low;  // NaN becomes low
}

// Mean over the pixels of each image: x [batch, pixels, channels] and y [batch, channels], both with a
// pitch. Floats of one type, summed in double; bytes each of their own type, summed exactly. With
// `round`, y = clamp(round_half_even(float(sum) * factor), low, high); bytes always are.
struct GlobalAverageStrided {
  const void* x = nullptr;
  void* y = nullptr;
  DType x_type = DType::kF32, y_type = DType::kF32;
  int64_t batch = 0, pixels = 0, channels = 0;
  int64_t x_pitch = 0, y_pitch = 0;
  float factor = 1.0f;
  bool round = false;
  float low = 0, high = 0;
};

// Whether both tensors are bytes. Throws Error unless they are, or are floats of one type.
bool check_average(const GlobalAverageStrided& p);

// As many bytes as can be summed in 32 bits.
inline constexpr int64_t kMostAveragedPixels = std::numeric_limits<int32_t>::max() / 255;
// The mean of `pixels` values with this sum. S is double, or an integer for bytes.
template <class S>
SEXTANT_HD float average_of(S sum, const GlobalAverageStrided& p) {
  if (!p.round) return static_cast<float>(static_cast<double>(sum) / static_cast<double>(p.pixels));
  const float v = std::nearbyint(static_cast<float>(sum) * p.factor);
  return v < p.low ? p.low : (v > p.high ? p.high : v);
}

// Softmax over the channels of each row. F32 or F16, computed in f32.
struct SoftmaxStrided {
  const void* x = nullptr;
  void* y = nullptr;
  DType dtype = DType::kF32;
  int64_t rows = 0, channels = 0;
  int64_t x_pitch = 0, y_pitch = 0;
};

}  // namespace sextant::kernels
