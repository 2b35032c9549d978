// SPDX-License-Identifier: Apache-2.0
// How the work of F(m x m, 3x3) is shared out. Tiles of m + 2 x m + 2 pixels are transformed, channel
// by channel; at each of the (m + 2)^2 positions the tiles are multiplied with the transformed
// weights, a matrix product over the channels; what comes out is transformed back to m x m pixels.
//
// With few channels a job does all three for some tiles, which then stay in its second cache. With
// many the weights are the larger part: the three are done one after the other for many tiles, and
// each position's weights are read once.
//
// A Work holds the layer's operands and has
//   Input, Product                  types of transformed tiles and of products
//   kPositions                      (m + 2)^2
//   const TileGrid& tiles() const, int64_t blocks() const
//   int64_t channels() const        values of a transformed tile at one position
//   void input(const TileBuffers<Work>&, int64_t index, int64_t t, Input* patch) const
//       transforms tile `index` of the layer to number t of the buffers; patch has room for a tile
//   void multiply(const TileBuffers<Work>&, int64_t position, int64_t tiles, int64_t block,
//                 Product* products, bool by_block) const
//       by_block: the weights of the block's next position are read next, not the next block's
//   void output(const TileBuffers<Work>&, const Product* products, int64_t index, int64_t t,
//               int64_t block) const
#pragma once

#include <algorithm>

#include "core/parallel.h"
#include "kernels/cpu/conv/f32.h"
#include "kernels/cpu/conv/scratch.h"
#include "kernels/cpu/conv/simd/block.h"

SEXTANT_SIMD_BEGIN();
namespace sextant::kernels::cpu::SEXTANT_SIMD {

// The tiles of a layer, row by row, image by image.
struct TileGrid {
  TileGrid(const Window& w, int64_t m)
      : size(m),
        rows((w.oh + m - 1) / m),
        columns((w.ow + m - 1) / m),
        count(w.n * rows * columns) {}
  int64_t image(int64_t index) const { return index / columns / rows; }
  int64_t row(int64_t index) const { return index / columns % rows * size; }
  int64_t column(int64_t index) const { return index % columns * size; }

  int64_t size, rows, columns, count;
};

// Transformed tiles and products, each position apart from the next.
template <class Work>
struct TileBuffers {
  // Between positions: a power of two would put them all into the same few sets of the cache.
  static constexpr int64_t kGap = 64;

  TileBuffers(const Work& work, int64_t tiles, std::byte* memory)
      : input(reinterpret_cast<typename Work::Input*>(memory)),
        products(reinterpret_cast<typename Work::Product*>(memory + input_bytes(work, tiles))),
        input_position(tiles * work.channels() + kGap / sizeof(typename Work::Input)),
        product_position(tiles * kBlock + kGap / sizeof(typename Work::Product)) {}

  static int64_t input_bytes(const Work& work, int64_t tiles) {
    const auto size = static_cast<int64_t>(sizeof(typename Work::Input));
    return Work::kPositions * (tiles * work.channels() * size + kGap);
  }
  static int64_t product_bytes(int64_t tiles) {
    const auto size = static_cast<int64_t>(sizeof(typename Work::Product));
    return Work::kPositions * (tiles * kBlock * size + kGap);
  }

  typename Work::Input* input;       // [positions, tiles, channels]
  typename Work::Product* products;  // [blocks, positions, tiles, lanes of the block]
  int64_t input_position, product_position;
};

template <class Work>
std::byte* tile_scratch(const Work& work, int64_t bytes, typename Work::Input** patch) {
  const auto size = static_cast<int64_t>(sizeof(typename Work::Input));
  std::byte* const memory = job_scratch(bytes + Work::kPositions * work.channels() * size);
  *patch = reinterpret_cast<typename Work::Input*>(memory + bytes);
  return memory;
}

// All of some tiles.
template <class Work>
struct FusedJobs {
  const Work& work;
  int64_t jobs;

  void operator()(int64_t job) const {
    using Buffers = TileBuffers<Work>;
    const int64_t first = work.tiles().count * job / jobs;
    const int64_t tiles = work.tiles().count * (job + 1) / jobs - first;
    typename Work::Input* patch = nullptr;
    const int64_t bytes = Buffers::input_bytes(work, tiles) + Buffers::product_bytes(tiles);
    const Buffers b(work, tiles, tile_scratch(work, bytes, &patch));
    for (int64_t t = 0; t < tiles; ++t) work.input(b, first + t, t, patch);
    for (int64_t block = 0; block < work.blocks(); ++block) {
      for (int64_t position = 0; position < Work::kPositions; ++position)
        work.multiply(b, position, tiles, block, b.products, true);
      for (int64_t t = 0; t < tiles; ++t) work.output(b, b.products, first + t, t, block);
    }
  }
};

// One after the other, for tiles [first, first + count) of the layer.
template <class Work>
struct Pass {
  const Work& work;
  TileBuffers<Work> b;
  int64_t first, count;
  int64_t shares;  // of the tiles

  typename Work::Product* products(int64_t block) const {
    return b.products + block * Work::kPositions * b.product_position;
  }
  int64_t begin(int64_t share) const { return count * share / shares; }
};
template <class Work>
struct InputJobs {
  const Pass<Work>& pass;
  void operator()(int64_t share) const {
    typename Work::Input* patch = nullptr;
    tile_scratch(pass.work, 0, &patch);
    for (int64_t t = pass.begin(share); t < pass.begin(share + 1); ++t)
      pass.work.input(pass.b, pass.first + t, t, patch);
  }
};
template <class Work>
struct ProductJobs {
  const Pass<Work>& pass;
  void operator()(int64_t position) const {
    for (int64_t block = 0; block < pass.work.blocks(); ++block)
      pass.work.multiply(pass.b, position, pass.count, block, pass.products(block), false);
  }
};
template <class Work>
struct OutputJobs {
  const Pass<Work>& pass;
  void operator()(int64_t share) const {
    for (int64_t t = pass.begin(share); t < pass.begin(share + 1); ++t)
      for (int64_t block = 0; block < pass.work.blocks(); ++block)
        pass.work.output(pass.b, pass.products(block), pass.first + t, t, block);
  }
};

template <class Work>
void run_fused(const Work& work, int64_t most) {
  const int64_t threads = num_threads(), tiles = work.tiles().count;
  int64_t jobs = (tiles + most - 1) / most;
  // Some for each thread, as even as may be, but no smaller than two rounds of the micro-kernel.
  jobs = std::max(jobs, std::min(4 * threads, tiles / (2 * kTile)));
  if (jobs < 8 * threads) jobs = (jobs + threads - 1) / threads * threads;
  parallel_jobs(jobs, FusedJobs<Work>{work, jobs});
}

template <class Work>
void run_in_phases(const Work& work) {
  using Buffers = TileBuffers<Work>;
  constexpr int64_t kPassBytes = 6 * 1024 * 1024;
  const int64_t tiles = work.tiles().count;
  const int64_t tile_bytes =
      Buffers::input_bytes(work, 1) + work.blocks() * Buffers::product_bytes(1);
  const int64_t most = std::max<int64_t>(kPassBytes / tile_bytes, 2 * kTile);
  const int64_t passes = (tiles + most - 1) / most;
  for (int64_t i = 0; i < passes; ++i) {
    const int64_t first = tiles * i / passes, count = tiles * (i + 1) / passes - first;
    std::byte* const memory = shared_scratch(Buffers::input_bytes(work, count) +
                                             work.blocks() * Buffers::product_bytes(count));
    const Pass<Work> pass{work, Buffers(work, count, memory), first, count,
                          std::min<int64_t>(count, 4 * num_threads())};
    parallel_jobs(pass.shares, InputJobs<Work>{pass});
    parallel_jobs(Work::kPositions, ProductJobs<Work>{pass});
    parallel_jobs(pass.shares, OutputJobs<Work>{pass});
  }
}

template <class Work>
void run_winograd(const Work& work) {
  using Buffers = TileBuffers<Work>;
  constexpr int64_t kFusedBytes = 320 * 1024;  // within a second cache
  const int64_t most = kFusedBytes / (Buffers::input_bytes(work, 1) + Buffers::product_bytes(1));
  if (most >= 2 * kTile && work.tiles().count >= 2 * kTile * num_threads())
    run_fused(work, most);
  else
    run_in_phases(work);
}

}  // namespace sextant::kernels::cpu::SEXTANT_SIMD
SEXTANT_SIMD_END();
