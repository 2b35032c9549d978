// SPDX-License-Identifier: Apache-2.0
// The sizes of the micro-kernels: kTile pixels by kBlock channels, whose sums fit the registers.
#pragma once

#include "kernels/cpu/simd/vec.h"

SEXTANT_SIMD_BEGIN();
namespace sextant::kernels::cpu::SEXTANT_SIMD {

#if defined(SEXTANT_SIMD_512)
inline constexpr int kTile = 12, kVecs = 2;  // of 32 registers 24 hold sums
#elif defined(SEXTANT_SIMD_256)
inline constexpr int kTile = 6, kVecs = 2;  // of 16 registers 12 hold sums
#else
inline constexpr int kTile = 6, kVecs = 4;  // NEON has 32
#endif
inline constexpr int kBlock = kVecs * kLanes;

// The channels of a convolution in blocks, the last of as many vectors as it needs.
struct Block {
  int64_t first, channels;
  int vecs() const { return static_cast<int>((channels + kLanes - 1) / kLanes); }
  int64_t width() const { return vecs() * kLanes; }
  bool whole() const { return channels % kLanes == 0; }  // vectors
};
SEXTANT_SIMD_INLINE int64_t block_count(int64_t oc) { return (oc + kBlock - 1) / kBlock; }
SEXTANT_SIMD_INLINE Block block_at(int64_t oc, int64_t b) {
  const int64_t first = b * kBlock;
  return {first, oc - first < kBlock ? oc - first : kBlock};
}
// Lanes of all blocks before b, or of all where b is their number.
SEXTANT_SIMD_INLINE int64_t width_before(int64_t oc, int64_t b) {
  if (b == 0) return 0;
  return (b - 1) * kBlock + block_at(oc, b - 1).width();
}

// Pointers Tile<P, V>::sum to micro-kernels for P pixels and V vectors, as a table by P - 1.
template <template <int, int> class Tile, int V>
struct TileTable {
  static constexpr decltype(Tile<1, V>::sum) value[] = {
      Tile<1, V>::sum,  Tile<2, V>::sum,  Tile<3, V>::sum,
      Tile<4, V>::sum,  Tile<5, V>::sum,  Tile<6, V>::sum,
#if defined(SEXTANT_SIMD_512)
      Tile<7, V>::sum,  Tile<8, V>::sum,  Tile<9, V>::sum,
      Tile<10, V>::sum, Tile<11, V>::sum, Tile<12, V>::sum,
#endif
  };
  static_assert(sizeof(value) / sizeof(value[0]) == kTile);
};
template <template <int, int> class Tile>
auto tiles_of(int vecs) -> decltype(Tile<1, 1>::sum)* {
  if constexpr (kVecs == 4) {
    if (vecs == 4) return TileTable<Tile, 4>::value;
    if (vecs == 3) return TileTable<Tile, 3>::value;
  }
  return vecs == 2 ? TileTable<Tile, 2>::value : TileTable<Tile, 1>::value;
}

}  // namespace sextant::kernels::cpu::SEXTANT_SIMD
SEXTANT_SIMD_END();
