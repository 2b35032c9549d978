// SPDX-License-Identifier: Apache-2.0
// The convolutions in int8 as the instruction sets offer them: weights packed once, run many times.
// Sums are exact in all of them.
#pragma once

#include <cstdint>
#include <memory>

#include "kernels/conv_int8.h"
#include "kernels/cpu/conv/window.h"

namespace sextant::kernels::cpu {

// Fields as in ConvInt8Forward; `residual` has y's type.
struct Int8Operands {
  const void* x = nullptr;
  void* y = nullptr;
  const void* residual = nullptr;
  Strides x_at, y_at, residual_at;
  const float* bias = nullptr;
  const float* factor = nullptr;
  const float* gain = nullptr;
  DType x_type = DType::kI8, y_type = DType::kI8;
  Epilogue epilogue{};
};

class Int8Conv {
 public:
  Int8Conv() = default;
  virtual ~Int8Conv() = default;
  Int8Conv(const Int8Conv&) = delete;
  Int8Conv& operator=(const Int8Conv&) = delete;
  // Callable from several threads.
  virtual void run(const Int8Operands& p) const = 0;
  virtual int64_t weight_bytes() const = 0;
};

// On the instruction set in use (isa()). w: [oc,kh,kw,ic] of one group.
std::unique_ptr<Int8Conv> make_direct_int8(const Window& window, const int8_t* w);
// Channel c of y from channel c of x alone; w: [channels,kh,kw], window.ic = window.oc.
std::unique_ptr<Int8Conv> make_depthwise_int8(const Window& window, const int8_t* w);
// By F(m x m, 3x3), m 2 or 4: for 3x3 kernels of stride 1 where can_winograd_int8().
std::unique_ptr<Int8Conv> make_winograd_int8(const Window& window, const int8_t* w, int m);

// F(m x m, 3x3) gives each sum times 4 (m = 2) or 64 (m = 4) in 32 bits: whether that fits for all
// 8-bit inputs and these weights.
bool can_winograd_int8(const Window& window, const int8_t* w, int m);
// Whether the instruction set in use multiplies bytes in fours.
bool has_vnni();

}  // namespace sextant::kernels::cpu
