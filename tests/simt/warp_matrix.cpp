// SPDX-License-Identifier: Apache-2.0
#include "simt/warp_matrix.h"

#include <bit>
#include <cmath>

#include "core/error.h"
#include "simt/half.h"

namespace simt {
namespace {

constexpr int kLanes = 32;

struct LoadMatrix {
  uint32_t* r;
  const void* row;
};

template <bool kTranspose>
void load_matrices(void* const* lanes) {
  const auto at = [&](int lane) { return static_cast<LoadMatrix*>(lanes[lane]); };
  for (int i = 0; i < 4; ++i)
    for (int lane = 0; lane < kLanes; ++lane) {
      uint16_t pair[2];
      for (int e = 0; e < 2; ++e) {
        const int row = kTranspose ? 2 * (lane % 4) + e : lane / 4;
        const int column = kTranspose ? lane / 4 : 2 * (lane % 4) + e;
        std::memcpy(&pair[e], static_cast<const char*>(at(8 * i + row)->row) + 2 * column, 2);
      }
      std::memcpy(&at(lane)->r[i], pair, sizeof pair);
    }
}

void load(uint32_t* r, const void* row, void (*work)(void* const*), const char* name,
          const Site& site) {
  if (reinterpret_cast<uintptr_t>(row) % 16 != 0)
    kernel_error("ldmatrix: row not aligned to 16 bytes", site);
  LoadMatrix lane{r, row};
  warp_function(name, &lane, work, site);
}

template <class D>
struct Multiply {
  D* d;
  const uint32_t* a;
  const uint32_t* b;
};

// How each type's elements lie in a 32-bit register.
struct F16 {
  using D = float;
  static constexpr int kPerRegister = 2;
  static double element(uint32_t r, int e) {
    return to_float(half{static_cast<uint16_t>(r >> 16 * e)});
  }
};
struct BF16 {
  using D = float;
  static constexpr int kPerRegister = 2;
  static double element(uint32_t r, int e) {
    return to_float(bfloat16{static_cast<uint16_t>(r >> 16 * e)});
  }
};
struct TF32 {
  using D = float;
  static constexpr int kPerRegister = 1;
  // The lower 13 bits are not looked at.
  static double element(uint32_t r, int) { return std::bit_cast<float>(r & 0xffffe000u); }
};
struct S8 {
  using D = int;
  static constexpr int kPerRegister = 4;
  static int element(uint32_t r, int e) { return static_cast<int8_t>(r >> 8 * e); }
};
struct U8 {
  using D = int;
  static constexpr int kPerRegister = 4;
  static int element(uint32_t r, int e) { return static_cast<uint8_t>(r >> 8 * e); }
};

// As tensor cores store f32: rounded toward zero.
float stored(double sum) {
  const auto nearest = static_cast<float>(sum);
  return std::abs(nearest) > std::abs(sum) ? std::nextafter(nearest, 0.0f) : nearest;
}
int stored(int sum) { return sum; }

// A lane has group g = lane / 4 and place t = lane % 4. A's registers: rows g and g + 8, elements
// t * p.. of the first half of k, then of the second; B's: column g likewise; D: rows g and g + 8,
// columns 2 t and 2 t + 1. p elements share a register.
template <class A, class B>
void multiply(void* const* lanes) {
  using D = typename A::D;
  using Sum = decltype(A::element(0, 0));
  constexpr int p = A::kPerRegister;
  constexpr int k = 8 * p;
  Sum a[16][k], b[8][k];
  for (int lane = 0; lane < kLanes; ++lane) {
    const auto& mine = *static_cast<Multiply<D>*>(lanes[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int e = 0; e < p; ++e)
      for (int second = 0; second < 2; ++second) {
        const int at = second * k / 2 + t * p + e;
        a[g][at] = A::element(mine.a[2 * second], e);
        a[g + 8][at] = A::element(mine.a[2 * second + 1], e);
        b[g][at] = B::element(mine.b[second], e);
      }
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    D* d = static_cast<Multiply<D>*>(lanes[lane])->d;
    for (int e = 0; e < 4; ++e) {
      const int row = lane / 4 + 8 * (e / 2), column = 2 * (lane % 4) + e % 2;
      Sum sum = static_cast<Sum>(d[e]);
      for (int i = 0; i < k; ++i) sum += a[row][i] * b[column][i];
      d[e] = stored(sum);
    }
  }
}

template <class A, class B, class D>
void mma(D* d, const uint32_t* a, const uint32_t* b, const Site& site) {
  Multiply<D> lane{d, a, b};
  warp_function("mma", &lane, multiply<A, B>, site);
}

}  // namespace

void ldmatrix_x4(uint32_t (&r)[4], const void* row, const Site& site) {
  load(r, row, load_matrices<false>, "ldmatrix", site);
}
void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row, const Site& site) {
  load(r, row, load_matrices<true>, "ldmatrix.trans", site);
}
void mma_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const Site& site) {
  mma<F16, F16>(d, a, b, site);
}
void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const Site& site) {
  mma<BF16, BF16>(d, a, b, site);
}
void mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const Site& site) {
  mma<TF32, TF32>(d, a, b, site);
}
void mma_s8s8(int (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const Site& site) {
  mma<S8, S8>(d, a, b, site);
}
void mma_u8s8(int (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const Site& site) {
  mma<U8, S8>(d, a, b, site);
}
uint32_t to_tf32(float f) { return (std::bit_cast<uint32_t>(f) + 0x1000u) & 0xffffe000u; }

}  // namespace simt
