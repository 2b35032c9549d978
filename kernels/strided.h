// What a deployed network does between convolutions: moving, pooling, adding, activations on their
// own, conversions.
//
// A tensor is rows (pixels) of `channels` neighbouring elements. A pitch is what lies from one row
// to the next: the channels when dense, more in a slice of a concat's buffer, into which a producer
// writes straight. What lies between is neither read nor written. Types are F32, F16, U8 and I8;
// any other is an Error.
#pragma once

#include <array>
#include <cstdint>

#include "core/dtype.h"
#include "core/stream.h"
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

// What a 2x2 stride-2 transposed convolution does after its products: source [N,H,W,2,2,bytes],
// dense, to destination [N,2H,2W,bytes].
struct DepthToSpace {
  const void* source = nullptr;
  void* destination = nullptr;
  int64_t batch = 0, height = 0, width = 0;  // of the source
  int64_t bytes = 0;
  int64_t destination_pitch = 0;
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
  // From bytes to bytes: y by x's bit pattern, [256], where the kernel runs; nothing of the above
  // but geometry counts. convert_table() makes one.
  const uint8_t* table = nullptr;
};
// Bits of y for each value of x; both types are bytes.
std::array<uint8_t, 256> convert_table(const ConvertStrided& p);

// Mean over the pixels of each image, summed in double: x [batch, pixels, channels] with a pitch, y
// [batch, channels] with a pitch. F32 or F16.
struct GlobalAverageStrided {
  const void* x = nullptr;
  void* y = nullptr;
  DType dtype = DType::kF32;
  int64_t batch = 0, pixels = 0, channels = 0;
  int64_t x_pitch = 0, y_pitch = 0;
};

// Softmax over the channels of each row. F32 or F16, computed in f32.
struct SoftmaxStrided {
  const void* x = nullptr;
  void* y = nullptr;
  DType dtype = DType::kF32;
  int64_t rows = 0, channels = 0;
  int64_t x_pitch = 0, y_pitch = 0;
};

namespace cpu {
void copy_strided(const CopyStrided& p);
void depth_to_space(const DepthToSpace& p);
void upsample_strided(const UpsampleStrided& p);
void max_pool_strided(const MaxPoolStrided& p);
void add_strided(const AddStrided& p);
void convert_strided(const ConvertStrided& p);
void global_average_strided(const GlobalAverageStrided& p);
void softmax_strided(const SoftmaxStrided& p);
}  // namespace cpu

namespace cuda {
// As on the CPU, integers and moved bytes to the bit (but behind an exponential). At most 2^31
// pieces of rows; an Error above.
void copy_strided(const CopyStrided& p, Stream stream);
void depth_to_space(const DepthToSpace& p, Stream stream);
void upsample_strided(const UpsampleStrided& p, Stream stream);
void max_pool_strided(const MaxPoolStrided& p, Stream stream);
void add_strided(const AddStrided& p, Stream stream);
void convert_strided(const ConvertStrided& p, Stream stream);
void global_average_strided(const GlobalAverageStrided& p, Stream stream);
void softmax_strided(const SoftmaxStrided& p, Stream stream);
}  // namespace cuda

}  // namespace sextant::kernels
