// SPDX-License-Identifier: Apache-2.0
// Three chained max-pools in one kernel (SPPF): intermediate results stay in shared memory.
#include "kernels/cuda/device/half.cuh"
#include "kernels/cuda/kernels.h"

namespace sextant::kernels::cuda {
namespace {

__device__ __forceinline__ int at_least(int a, int low) { return a > low ? a : low; }
__device__ __forceinline__ int at_most(int a, int high) { return a < high ? a : high; }

constexpr int kChainThreads = 256;
template <class T>
constexpr int kChainChannels = 32 / sizeof(T);  // of a block: the 32 bytes that memory is read by
constexpr int kChainTile = 20;                  // about the output rows and columns of a block
constexpr int kChainShared = 99 * 1024;         // what a block of every device since sm_80 can have

template <class T>
struct Chain {
  const T* x;
  T* y[3];
  int32_t* index[3];
  int h, w, c, radius;
  int tile_h, tile_w;      // outputs of a block
  int region_h, region_w;  // room for what they depend on
  int tiles_x, tiles_y;
  int channel_tiles;
};

// A block takes a tile of one image and kChainChannels<T> channels. Each pool needs `radius` pixels
// more around than the next: the first is computed over the tile and two such margins (inside the
// image), and so on. Two buffers in shared memory take turns.
template <class T, bool kIndexed>
__global__ void __launch_bounds__(kChainThreads) chain_kernel(Chain<T> p) {
  constexpr int kChannels = kChainChannels<T>;
  SEXTANT_DYNAMIC_SHARED(T, shared);  // [2][region_h][region_w][kChannels]
  int block = static_cast<int>(blockIdx.x);
  const int channel_tile = block % p.channel_tiles;
  block /= p.channel_tiles;
  const int tile_x = block % p.tiles_x;
  block /= p.tiles_x;
  const int tile_y = block % p.tiles_y;
  const int image = block / p.tiles_y;
  const int lane = static_cast<int>(threadIdx.x) % kChannels;
  const int first = static_cast<int>(threadIdx.x) / kChannels;
  constexpr int kPixels = kChainThreads / kChannels;
  const int channel = channel_tile * kChannels + lane;
  const bool active = channel < p.c;

  struct Range {
    int begin, end;
  };
  const auto range = [&](int tile, int size, int count, int margin) {
    return Range{at_least(tile * size - margin, 0), at_most((tile + 1) * size + margin, count)};
  };
  const Range whole_y = range(tile_y, p.tile_h, p.h, 3 * p.radius);
  const Range whole_x = range(tile_x, p.tile_w, p.w, 3 * p.radius);
  const auto place = [&](int y, int x) {
    return ((y - whole_y.begin) * p.region_w + x - whole_x.begin) * kChannels + lane;
  };
  // f(y, x) for this thread's pixels of what the pool needs that has `left` pools after it.
  const auto each_pixel = [&](int left, const auto& f) {
    const Range ys = range(tile_y, p.tile_h, p.h, left * p.radius);
    const Range xs = range(tile_x, p.tile_w, p.w, left * p.radius);
    const int columns = xs.end - xs.begin;
    for (int i = first; i < (ys.end - ys.begin) * columns; i += kPixels)
      f(ys.begin + i / columns, xs.begin + i % columns);
  };
  const int64_t base = static_cast<int64_t>(image) * p.h * p.w;
  const auto global = [&](int y, int x) { return (base + y * p.w + x) * p.c + channel; };

  T* from = shared;
  T* to = shared + p.region_h * p.region_w * kChannels;
  if (active) each_pixel(3, [&](int y, int x) { from[place(y, x)] = p.x[global(y, x)]; });
#pragma unroll
  for (int stage = 0; stage < 3; ++stage) {
    __syncthreads();
    const Range own_y = range(tile_y, p.tile_h, p.h, 0);
    const Range own_x = range(tile_x, p.tile_w, p.w, 0);
    if (active)
      each_pixel(2 - stage, [&](int y, int x) {
        const int y0 = at_least(y - p.radius, 0), y1 = at_most(y + p.radius + 1, p.h);
        const int x0 = at_least(x - p.radius, 0), x1 = at_most(x + p.radius + 1, p.w);
        float best = as_float(from[place(y0, x0)]);
        int winner = y0 * p.w + x0;
        for (int py = y0; py < y1; ++py)
          for (int px = x0; px < x1; ++px) {
            const float value = as_float(from[place(py, px)]);
            if (value > best) {
              best = value;
              winner = py * p.w + px;
            }
          }
        to[place(y, x)] = from_float<T>(best);
        if (y < own_y.begin || y >= own_y.end || x < own_x.begin || x >= own_x.end) return;
        p.y[stage][global(y, x)] = from_float<T>(best);
        if (kIndexed) p.index[stage][global(y, x)] = winner;
      });
    T* const swap = from;
    from = to;
    to = swap;
  }
}

int even_tile(int64_t size) {
  const int64_t tiles = (size + kChainTile - 1) / kChainTile;
  return static_cast<int>((size + tiles - 1) / tiles);
}

void check_chain(const ChainedMaxPools& p) {
  check(p.kernel >= 1 && p.kernel % 2 == 1, "chained_max_pools: kernel {}, must be odd", p.kernel);
  const bool any = p.index[0] || p.index[1] || p.index[2];
  const bool all = p.index[0] && p.index[1] && p.index[2];
  check(any == all, "chained_max_pools: some of the three index tensors are null, some not");
}

template <class T>
void run_chain(const ChainedMaxPools& p, Stream stream) {
  Chain<T> c{};
  c.x = static_cast<const T*>(p.x);
  for (int i = 0; i < 3; ++i) {
    c.y[i] = static_cast<T*>(p.y[i]);
    c.index[i] = p.index[i];
  }
  c.h = static_cast<int>(p.h);
  c.w = static_cast<int>(p.w);
  c.c = static_cast<int>(p.c);
  c.radius = static_cast<int>(p.kernel / 2);
  c.tile_h = even_tile(p.h);
  c.tile_w = even_tile(p.w);
  c.region_h = std::min(c.h, c.tile_h + 6 * c.radius);
  c.region_w = std::min(c.w, c.tile_w + 6 * c.radius);
  c.tiles_y = (c.h + c.tile_h - 1) / c.tile_h;
  c.tiles_x = (c.w + c.tile_w - 1) / c.tile_w;
  c.channel_tiles = (c.c + kChainChannels<T> - 1) / kChainChannels<T>;
  const int64_t shared =
      2 * static_cast<int64_t>(sizeof(T)) * kChainChannels<T> * c.region_h * c.region_w;
  const int64_t blocks = p.n * c.tiles_y * c.tiles_x * c.channel_tiles;
  if (shared > kChainShared || blocks > 0x7FFFFFFF) {  // a kernel of 9 or more on a large map
    const void* x = p.x;
    for (int i = 0; i < 3; ++i) {
      max_pool_forward(
          {p.n, p.h, p.w, p.c, p.kernel, 1, p.kernel / 2, x, p.y[i], p.index[i], p.dtype}, nullptr,
          stream);
      x = p.y[i];
    }
    return;
  }
  const auto start = [&](const auto& kernel) {
    launch(kernel, static_cast<unsigned>(blocks), kChainThreads, static_cast<size_t>(shared),
           stream, c);
  };
  if (p.index[0])
    start(SEXTANT_KERNEL(chain_kernel<T, true>));
  else
    start(SEXTANT_KERNEL(chain_kernel<T, false>));
}

}  // namespace

void chained_max_pools(const ChainedMaxPools& p, void*, Stream stream) {
  check_chain(p);
  dispatch_float("chained_max_pools", p.dtype, [&](auto type) {
    if (p.n * p.h * p.w * p.c != 0) run_chain<decltype(type)>(p, stream);
  });
}

}  // namespace sextant::kernels::cuda
