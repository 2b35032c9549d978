// SPDX-License-Identifier: Apache-2.0
// The warp-level matrix functions and the tile loads of kernels/cuda, against plain products.
#include <cmath>

#include "kernels/cuda/conv/tile.cuh"
#include "simt/cases/cases.h"

namespace sextant::test {
namespace {

using namespace sextant::kernels::cuda;

// The value of a stored element, and a random element.
double as_double(float v) { return v; }
double as_double(__half v) { return simt::to_float(v); }
double as_double(__nv_bfloat16 v) { return simt::to_float(v); }
double as_double(int8_t v) { return v; }
double as_double(uint8_t v) { return v; }
template <class T>
T random_element(Rng& rng) {
  if constexpr (std::is_integral_v<T>)
    return static_cast<T>(rng.below(256));
  else
    return from_float<T>(static_cast<float>(rng.uniform(-1, 1)));
}

// One warp: the 32 x 16 product over one operand tile's k, from tiles laid out as the loaders do,
// added up so many times.
template <class Math, class E, class F, bool kAlongA, bool kAlongB>
__global__ void warp_product(const E* a, const F* b, typename Math::Accumulator* d, int times) {
  constexpr int kM = 64, kN = 64, kWarpM = 32, kWarpN = 16;
  constexpr int kK = kTileRowBytes / static_cast<int>(sizeof(E));
  SEXTANT_SHARED(unsigned char[(kM + kN) * kTileRowBytes], tiles);
  const OperandTile<E, kAlongA, kM> tile_a{tiles};
  const OperandTile<F, kAlongB, kN> tile_b{tiles + kM * kTileRowBytes};
  const auto fill = [](const auto& tile, const auto* from) {
    for (int at = lane_id(); at < kM * kK; at += 32) {
      const auto* place = tile.slot(at / kK, at % kK);
      *const_cast<std::remove_const_t<std::remove_pointer_t<decltype(place)>>*>(place) = from[at];
    }
  };
  fill(tile_a, a);
  fill(tile_b, b);
  __syncwarp();
  const int first_row = 16, first_column = 32;
  typename Math::Accumulator sum[kWarpM / 16][kWarpN / 8][4] = {};
  for (int i = 0; i < times * Math::kSteps; ++i) {
    const int step = i % Math::kSteps;
    typename Math::FragmentA fa[kWarpM / 16];
    typename Math::FragmentB fb[kWarpN / 8];
    for (int r = 0; r < kWarpM / 16; ++r) Math::load_a(fa[r], tile_a, first_row + 16 * r, step);
    Math::load_b(fb, tile_b, first_column, step);
    for (int r = 0; r < kWarpM / 16; ++r)
      for (int c = 0; c < kWarpN / 8; ++c) Math::multiply(sum[r][c], fa[r], fb[c]);
  }
  for (int r = 0; r < kWarpM / 16; ++r)
    for (int c = 0; c < kWarpN / 8; ++c)
      for (int e = 0; e < 4; ++e)
        d[(16 * r + lane_id() / 4 + 8 * (e / 2)) * kWarpN + 8 * c + 2 * (lane_id() % 4) + e % 2] =
            sum[r][c][e];
}

// The largest error of warp_product relative to sum |a| |b|.
template <class Math, bool kAlongA, bool kAlongB, class F = typename Math::Element>
double product_error(int times = 1) {
  using E = typename Math::Element;
  constexpr int kK = kTileRowBytes / static_cast<int>(sizeof(E));
  double worst = 0;
  for (uint64_t seed = 0; seed < 3; ++seed) {
    simt::set_seed(seed);
    Rng rng(seed);
    std::vector<E> a(64 * kK);
    std::vector<F> b(64 * kK);
    for (E& v : a) v = random_element<E>(rng);
    for (F& v : b) v = random_element<F>(rng);
    std::vector<typename Math::Accumulator> d(32 * 16);
    launch(SEXTANT_KERNEL(warp_product<Math, E, F, kAlongA, kAlongB>), 1, 32, 0, {}, a.data(),
           b.data(), d.data(), times);
    for (size_t i = 0; i < 32; ++i)
      for (size_t j = 0; j < 16; ++j) {
        double sum = 0, magnitude = 0;
        for (size_t k = 0; k < kK; ++k) {
          const double p = as_double(a[(16 + i) * kK + k]) * as_double(b[(32 + j) * kK + k]);
          sum += p;
          magnitude += std::abs(p);
        }
        worst =
            std::max(worst, std::abs(static_cast<double>(d[i * 16 + j]) / times - sum) / magnitude);
      }
  }
  return worst;
}

TEST_CASE("mma: a warp's product from tiles along and across k") {
  CHECK(product_error<F16Math, true, true>() < 1e-7);
  CHECK(product_error<F16Math, true, false>() < 1e-7);
  CHECK(product_error<F16Math, false, false>() < 1e-7);
  CHECK(product_error<BF16Math, true, true>() < 1e-7);
  CHECK(product_error<BF16Math, true, false>() < 1e-7);
  CHECK(product_error<BF16Math, false, false>() < 1e-7);
  CHECK(product_error<TF32x3Math, true, true>() < 1e-6);
  CHECK(product_error<TF32x3Math, true, false>() < 1e-6);
  CHECK(product_error<TF32x3Math, false, false>() < 1e-6);
  CHECK(product_error<FmaMath, true, true>() < 1e-6);
  CHECK(product_error<FmaMath, true, false>() < 1e-6);
  CHECK(product_error<FmaMath, false, false>() < 1e-6);
  CHECK(product_error<S8Math, true, true>() == 0);
  CHECK(product_error<U8Math, true, true, int8_t>() == 0);
}

TEST_CASE("mma: f32 stays f32 over long sums though tensor cores round toward zero") {
  CHECK(product_error<TF32x3Math, true, true>(72) < 3e-6);  // k = 1152; 1e-5 if summed there
}

// Random registers, against the fragment tables of the PTX ISA written out element by element.
template <class D>
__global__ void raw_mma(void (*function)(D (&)[4], const uint32_t (&)[4], const uint32_t (&)[2],
                                         const simt::Site&),
                        const uint32_t* a, const uint32_t* b, D* d) {
  const size_t lane = threadIdx.x;
  uint32_t ra[4], rb[2];
  D rd[4];
  for (size_t i = 0; i < 4; ++i) ra[i] = a[4 * lane + i], rd[i] = d[4 * lane + i];
  for (size_t i = 0; i < 2; ++i) rb[i] = b[2 * lane + i];
  function(rd, ra, rb, simt::Site::current());
  for (size_t i = 0; i < 4; ++i) d[4 * lane + i] = rd[i];
}

// m16n8kK: the row and column of element i of a lane's fragment (PTX ISA, "Matrix Fragments").
struct Place {
  int row, column;
};
Place a_16bit(int lane, int i) {  // m16n8k16, i in 0..7
  return {lane / 4 + ((i >= 2 && i < 4) || i >= 6 ? 8 : 0),
          lane % 4 * 2 + (i & 1) + (i >= 4 ? 8 : 0)};
}
Place b_16bit(int lane, int i) { return {lane % 4 * 2 + (i & 1) + (i >= 2 ? 8 : 0), lane / 4}; }
Place a_8bit(int lane, int i) {  // m16n8k32, i in 0..15
  return {lane / 4 + ((i >= 4 && i < 8) || i >= 12 ? 8 : 0),
          lane % 4 * 4 + (i & 3) + (i >= 8 ? 16 : 0)};
}
Place b_8bit(int lane, int i) { return {lane % 4 * 4 + (i & 3) + (i >= 4 ? 16 : 0), lane / 4}; }
Place a_tf32(int lane, int i) {  // m16n8k8, i in 0..3
  return {lane / 4 + (i == 1 || i == 3 ? 8 : 0), lane % 4 + (i >= 2 ? 4 : 0)};
}
Place b_tf32(int lane, int i) { return {lane % 4 + (i == 1 ? 4 : 0), lane / 4}; }

template <class E, class F, class D, class Function>
double raw_error(Function function, Place (*place_a)(int, int), Place (*place_b)(int, int)) {
  constexpr int kPer = 4 / sizeof(E), kK = 8 * kPer;
  Rng rng(9);
  std::vector<E> a(32 * 4 * kPer);
  std::vector<F> b(32 * 2 * kPer);
  std::vector<D> d(32 * 4), before;
  for (E& v : a) v = random_element<E>(rng);
  for (F& v : b) v = random_element<F>(rng);
  if constexpr (std::is_same_v<E, float>) {  // what an mma reads of an f32
    for (auto* m : {&a, &b})
      for (float& v : *m) v = std::bit_cast<float>(simt::to_tf32(v));
  }
  for (D& v : d) v = static_cast<D>(rng.uniform(-4, 4));
  before = d;
  double ma[16][kK], mb[kK][8];
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 4 * kPer; ++i) {
      const Place p = place_a(lane, i);
      ma[p.row][p.column] = as_double(a[static_cast<size_t>(lane * 4 * kPer + i)]);
    }
    for (int i = 0; i < 2 * kPer; ++i) {
      const Place p = place_b(lane, i);
      mb[p.row][p.column] = as_double(b[static_cast<size_t>(lane * 2 * kPer + i)]);
    }
  }
  launch(SEXTANT_KERNEL(raw_mma<D>), 1, 32, 0, {}, function,
         reinterpret_cast<const uint32_t*>(a.data()), reinterpret_cast<const uint32_t*>(b.data()),
         d.data());
  double worst = 0;
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4; ++i) {
      const auto at = static_cast<size_t>(4 * lane + i);
      double sum = static_cast<double>(before[at]);
      for (int k = 0; k < kK; ++k)
        sum += ma[lane / 4 + (i >= 2 ? 8 : 0)][k] * mb[k][lane % 4 * 2 + (i & 1)];
      worst = std::max(worst, std::abs(static_cast<double>(d[at]) - sum));
    }
  return worst;
}

TEST_CASE("mma: registers have the layout of the PTX ISA") {
  CHECK(raw_error<__half, __half, float>(simt::mma_f16, a_16bit, b_16bit) < 1e-6);
  CHECK(raw_error<__nv_bfloat16, __nv_bfloat16, float>(simt::mma_bf16, a_16bit, b_16bit) < 1e-6);
  CHECK(raw_error<float, float, float>(simt::mma_tf32, a_tf32, b_tf32) < 1e-6);
  CHECK(raw_error<int8_t, int8_t, int>(simt::mma_s8s8, a_8bit, b_8bit) == 0);
  CHECK(raw_error<uint8_t, int8_t, int>(simt::mma_u8s8, a_8bit, b_8bit) == 0);
}

TEST_CASE("mma: swizzled tiles have no bank conflicts") {
  // ldmatrix reads eight rows of one chunk: their sixteen-byte bank groups have to differ.
  const auto groups = [](auto chunk_of_row) {
    unsigned seen = 0;
    for (int row = 0; row < 8; ++row) seen |= 1u << chunk_of_row(row) % 8;
    return seen;
  };
  for (int first = 0; first < 64; first += 8)
    for (int chunk = 0; chunk < 4; ++chunk)
      CHECK(groups([&](int r) { return chunk_along_k(first + r, chunk); }) == 0xff);
  for (const int chunks : {4, 8, 16})
    for (int first = 0; first < 32; first += 8)
      for (int chunk = 0; chunk < chunks; ++chunk)
        CHECK(groups([&](int r) { return chunk_across_k<2>(first + r, chunk, chunks); }) == 0xff);
  // A tf32 fragment across k: k = t, index = g; 32 different banks of four bytes.
  for (const int chunks : {8, 16, 32})
    for (int k = 0; k < 16; k += 4)
      for (int index = 0; index < 4 * chunks; index += 8) {
        uint64_t banks = 0;
        for (int lane = 0; lane < 32; ++lane) {
          const int i = index + lane / 4;
          banks |= uint64_t{1} << (chunk_across_k<4>(k + lane % 4, i / 4, chunks) * 4 + i % 4) % 32;
        }
        CHECK(banks == 0xffffffffu);
      }
}

// --- asynchronous copies -------------------------------------------------------------------------

enum class CopyMistake { kNone, kNoWait, kWaitForOlder, kNoBarrier, kMisaligned };
template <CopyMistake kMistake>
__global__ void copy_ahead(const float* x, float* y) {
  SEXTANT_SHARED(float[2][32 * 4], buffer);
  const int t = static_cast<int>(threadIdx.x);
  for (int stage = 0; stage < 2; ++stage) {
    cp_async(16, buffer[stage] + 4 * t + (kMistake == CopyMistake::kMisaligned ? 1 : 0),
             x + stage * 128 + 4 * t, t != 5);
    cp_async_commit();
  }
  if (kMistake == CopyMistake::kWaitForOlder)
    cp_async_wait<1>();
  else if (kMistake != CopyMistake::kNoWait)
    cp_async_wait<0>();
  if (kMistake != CopyMistake::kNoBarrier) __syncthreads();
  for (int stage = 0; stage < 2; ++stage)
    for (int i = t; i < 128; i += 32) y[stage * 128 + i] = buffer[stage][127 - i];
}
template <CopyMistake kMistake>
int copies_wrong() {
  const std::vector<float> x = random_values(256, 3, 1, 2);
  simt::set_seed(1);
  std::vector<float> y(256);
  launch(SEXTANT_KERNEL(copy_ahead<kMistake>), 1, 32, 0, {}, x.data(), y.data());
  int wrong = 0;
  for (size_t i = 0; i < 256; ++i) {
    const size_t from = i / 128 * 128 + 127 - i % 128;
    wrong += y[i] != (from % 128 / 4 == 5 ? 0.0f : x[from]);
  }
  return wrong;
}

TEST_CASE("cp.async: right with its wait, wrong without") {
  CHECK(copies_wrong<CopyMistake::kNone>() == 0);
  CHECK(copies_wrong<CopyMistake::kNoWait>() == 256);
  CHECK(copies_wrong<CopyMistake::kWaitForOlder>() == 128);
  CHECK(copies_wrong<CopyMistake::kNoBarrier>() > 0);
  CHECK_THAT(error_of([] { static_cast<void>(copies_wrong<CopyMistake::kMisaligned>()); }),
             Contains("not aligned to 16 bytes"));
}

__global__ void half_a_warp_multiplies() {
  float d[4] = {};
  const uint32_t a[4] = {}, b[2] = {};
  if (threadIdx.x < 16) mma_f16(d, a, b);
}

TEST_CASE("mma: all lanes have to participate") {
  CHECK_THAT(error_of([] { launch(SEXTANT_KERNEL(half_a_warp_multiplies), 1, 32, 0, {}); }),
             Contains("lane 16 has exited") || Contains("wait at mma") || Contains("has exited"));
}

// --- 16-bit types --------------------------------------------------------------------------------

TEST_CASE("half and bfloat16: every value survives, floats round to nearest even") {
  int wrong = 0;
  for (uint32_t bits = 0; bits < 0x10000u; ++bits) {
    const simt::half h{static_cast<uint16_t>(bits)};
    const simt::bfloat16 b{static_cast<uint16_t>(bits)};
    const float fh = simt::to_float(h), fb = simt::to_float(b);
    wrong += !std::isnan(fh) && simt::to_half(fh).bits != h.bits;
    wrong += !std::isnan(fb) && simt::to_bfloat16(fb).bits != b.bits;
    wrong += std::isnan(fh) != ((bits & 0x7fffu) > 0x7c00u);
    // Half-way to the next value goes to the even one; a little to either side, to the nearer.
    if ((bits & 0x7fffu) < 0x7bffu) {
      const float next = simt::to_float(simt::half{static_cast<uint16_t>(bits + 1)});
      const float middle = 0.5f * fh + 0.5f * next;
      wrong += simt::to_half(middle).bits != (bits & 1u ? bits + 1 : bits);
      wrong += simt::to_half(std::nextafter(middle, fh)).bits != bits;
      wrong += simt::to_half(std::nextafter(middle, next)).bits != bits + 1;
    }
  }
  CHECK(wrong == 0);
  CHECK(simt::to_float(simt::half{0x3c01}) == 1.0f + 0x1p-10f);
  CHECK(simt::to_half(65519.0f).bits == 0x7bff);
  CHECK(simt::to_half(65520.0f).bits == 0x7c00);
  CHECK(simt::to_half(0x1p-25f).bits == 0);
  CHECK(simt::to_half(0x1.8p-25f).bits == 1);
  CHECK(simt::to_bfloat16(std::bit_cast<float>(0x3f808000u)).bits == 0x3f80);
  CHECK(simt::to_bfloat16(std::bit_cast<float>(0x3f818000u)).bits == 0x3f82);
  CHECK(simt::to_bfloat16(std::bit_cast<float>(0x3f808001u)).bits == 0x3f81);
}

}  // namespace
}  // namespace sextant::test
