// SPDX-License-Identifier: Apache-2.0
// The epilogue of a convolution's sums, eight neighbouring columns at a time.
#pragma once

#include "kernels/cuda/conv/tile.cuh"
#include "kernels/cuda/device/pack.cuh"
#include "kernels/math/epilogue.h"

namespace sextant::kernels::cuda {

template <class T>
struct alignas(8 * sizeof(T) < 16 ? 8 * sizeof(T) : 16) Eight {
  T v[8];
};
// `columns` of eight values at `p`, as packs where `packed` (then columns is 8 and p is aligned).
template <class T>
__device__ __forceinline__ Eight<T> load_eight(const T* p, int columns, bool packed) {
  if (packed) return *reinterpret_cast<const Eight<T>*>(p);
  Eight<T> out{};
#pragma unroll
  for (int e = 0; e < 8; ++e)
    if (e < columns) out.v[e] = p[e];
  return out;
}
template <class T>
__device__ __forceinline__ void store_eight(T* p, const Eight<T>& values, int columns,
                                            bool packed) {
  if (packed) {
    *reinterpret_cast<Eight<T>*>(p) = values;
    return;
  }
#pragma unroll
  for (int e = 0; e < 8; ++e)
    if (e < columns) p[e] = values.v[e];
}
template <class T>
bool packs_of_eight(const T* p, int64_t columns) {
  return columns % 8 == 0 && reinterpret_cast<uintptr_t>(p) % alignof(Eight<T>) == 0;
}

// Those that no deployed YOLOv6 has behind a convolution, as calls: eight copies of each in every
// kernel are most of its instructions and of the time to compile it.
__device__ __attribute__((noinline)) inline float rare_activation(Activation a, float x) {
  return activate(a, x);
}

__device__ __forceinline__ void activate_eight(Activation a, float (&v)[8]) {
  if (a == Activation::kIdentity) return;
  if (a == Activation::kReLU) {
#pragma unroll
    for (float& x : v) x = activate<Activation::kReLU>(x);
  } else if (a == Activation::kSiLU) {
#pragma unroll
    for (float& x : v) x = activate<Activation::kSiLU>(x);
  } else {
#pragma unroll
    for (float& x : v) x = rare_activation(a, x);
  }
}

// Row i of the product is pixel i of a grid [images, rows, columns]; it is written to
// y = row * step + first_y, x likewise of a tensor [images, height, width], whose pixels lie
// `pitch` elements from each other.
struct PixelMap {
  Divider<uint32_t> plane, row;
  int height, width, pitch;
  int step, first_y, first_x;
  __device__ __forceinline__ int64_t pixel(int i) const {
    const auto u = static_cast<uint32_t>(i);
    const uint32_t image = plane.quotient(u);
    const uint32_t within = u - image * plane.divisor;
    const uint32_t r = row.quotient(within);
    const int y = static_cast<int>(r) * step + first_y;
    const int x = static_cast<int>(within - r * row.divisor) * step + first_x;
    return (static_cast<int64_t>(image) * height + y) * width + x;
  }
};

// kernels/epilogue.h of sum + bias.
template <class T>
struct FloatEpilogue {
  T* y;
  const T* residual;  // may be y
  const float* bias;
  PixelMap map;
  bool packed;
  int residual_pitch = 0;
  Activation activation = Activation::kIdentity;
  EpilogueSteps steps;
  const float* gain = nullptr;
  __device__ __forceinline__ void write(int, int i, int j, int columns,
                                        const EightColumns<float>& sums) const {
    const int64_t pixel = map.pixel(i);
    const int64_t at = pixel * map.pitch + j;
    Eight<T> other{}, out;
    if (residual) other = load_eight(residual + pixel * residual_pitch + j, columns, packed);
    float v[8];
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      v[e] = sums.v[e];
      if (bias && e < columns) v[e] += bias[j + e];
      v[e] = steps.before(v[e], as_float(other.v[e]));
    }
    activate_eight(activation, v);
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      const float g = gain && e < columns ? gain[j + e] : 1.0f;
      out.v[e] = from_float<T>(steps.after(v[e], as_float(other.v[e]), g));
    }
    store_eight(y + at, out, columns, packed);
  }
};

// The sums of a slice as they are: partial[slice][i][j].
struct PartialEpilogue {
  float* partial;
  int64_t slice_pitch;
  int columns_in_row;
  bool packed;
  __device__ __forceinline__ void write(int slice, int i, int j, int columns,
                                        const EightColumns<float>& sums) const {
    Eight<float> out;
#pragma unroll
    for (int e = 0; e < 8; ++e) out.v[e] = sums.v[e];
    store_eight(partial + slice * slice_pitch + static_cast<int64_t>(i) * columns_in_row + j, out,
                columns, packed);
  }
};

}  // namespace sextant::kernels::cuda
