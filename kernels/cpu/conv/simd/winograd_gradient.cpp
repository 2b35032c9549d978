// SPDX-License-Identifier: Apache-2.0
// Weight gradients of 3x3 convolutions of stride 1 in f32 by F(4x4, 3x3): at each of the 36 positions
// of transformed tiles, a sum of outer products of dy's and x's channels; the sums are transformed
// back to 3x3.
//
// With few channels a job transforms and adds a piece of the tiles after the other, beside its sums
// in its second cache. With many the sums are the larger part: many tiles are transformed, then each
// position's products are added, so that a sum is read and written once for them all.
#include <algorithm>

#include "kernels/cpu/conv/gradient_cut.h"
#include "kernels/cpu/conv/simd/outer.h"
#include "kernels/cpu/conv/simd/per_isa.h"
#include "kernels/cpu/conv/simd/tile_transform.h"

SEXTANT_SIMD_BEGIN();
namespace sextant::kernels::cpu::SEXTANT_SIMD {
namespace {

using F = F4;
constexpr int64_t kPositions = F::kIn * F::kIn;
constexpr int64_t kGap = 16;  // between positions: see TileBuffers

struct Layer {
  explicit Layer(const Window& w)
      : win(w),
        grid(w, F::kOut),
        ic(whole_vectors(w.ic)),
        oc(whole_vectors(w.oc)),
        sum_position(w.oc * ic + kGap) {}
  // Values of a buffer of sums, [positions, oc, ic].
  int64_t sum_count() const { return kPositions * sum_position; }
  // Tiles that take `bytes` when transformed, x and dy.
  int64_t tiles_in(int64_t bytes) const { return bytes / 4 / kPositions / (ic + oc); }

  const Window& win;
  TileGrid grid;
  int64_t ic, oc;  // in whole vectors
  int64_t sum_position;
};

// Pixels [rows, columns] of a tile of dy at `from`, zeros beyond them -> [positions], `channels` each.
void transform_output_gradient(const float* from, int64_t row, int64_t pixel, int64_t rows,
                               int64_t columns, int64_t channels, float* to, int64_t position) {
  for (int64_t c = 0; c < channels; c += kLanes) {
    const int64_t count = channels - c;
    Vec half[F::kIn][F::kOut];
#pragma GCC unroll 4
    for (int j = 0; j < F::kOut; ++j) {
      Vec d[F::kOut], m[F::kIn];
#pragma GCC unroll 4
      for (int i = 0; i < F::kOut; ++i)
        d[i] = i < rows && j < columns ? load_part(from + i * row + j * pixel + c, count) : Vec{};
      F::output_gradient(d, m);
#pragma GCC unroll 6
      for (int i = 0; i < F::kIn; ++i) half[i][j] = m[i];
    }
#pragma GCC unroll 6
    for (int i = 0; i < F::kIn; ++i) {
      Vec m[F::kIn];
      F::output_gradient(half[i], m);
#pragma GCC unroll 6
      for (int j = 0; j < F::kIn; ++j) store(to + (i * F::kIn + j) * position + c, m[j]);
    }
  }
}

// `room` transformed tiles.
struct TransformedTiles {
  TransformedTiles(const Layer& layer, int64_t room, float* memory)
      : x(memory),
        dy(memory + kPositions * (room * layer.ic + kGap)),
        x_position(room * layer.ic + kGap),
        dy_position(room * layer.oc + kGap) {}
  static int64_t values(const Layer& layer, int64_t room) {
    return kPositions * (room * (layer.ic + layer.oc) + 2 * kGap);
  }

  // Tile `index` of the layer, of dy the channels `outputs`, to number t. `patch`: room for a tile.
  void transform(const Layer& layer, const F32Gradient& p, int64_t index, int64_t t,
                 const Share& outputs, float* patch) const {
    const Window& w = layer.win;
    transform_tile<F>(w, p.x, layer.grid, index, patch, x + t * layer.ic, x_position);
    const int64_t row = layer.grid.row(index), column = layer.grid.column(index);
    transform_output_gradient(p.dy.at(layer.grid.image(index), row, column) + outputs.begin,
                              p.dy.row, p.dy.pixel, w.oh - row, w.ow - column, outputs.size(),
                              dy + t * layer.oc, dy_position);
  }

  // sums [outputs, ic] += the products of the first `tiles`; left: dy's first channel at the position.
  void add(const Layer& layer, int64_t position, const float* left, int64_t tiles, int64_t outputs,
           float* sums) const {
    for (int64_t b = 0; b < block_count(layer.ic); ++b) {
      const OuterSource s{left, x + position * x_position + b * kBlock, layer.oc, 0, layer.ic, 0, 1,
                          tiles};
      add_outers(s, outputs, block_at(layer.ic, b).vecs(), sums + b * kBlock, layer.ic);
    }
  }

  float* x;   // [positions, tiles, ic]
  float* dy;  // [positions, tiles, oc]
  int64_t x_position, dy_position;
};

// With few channels: a group of pieces of `room` tiles, of a share of the outputs.
struct SumJobs {
  const Layer& layer;
  const GradientCut& cut;
  const F32Gradient& p;
  float* sums;  // [groups, positions, oc, ic]
  int64_t room;

  void operator()(int64_t job) const {
    const Share outputs(layer.win.oc, job % cut.shares, cut.shares);
    const int64_t group = job / cut.shares;
    float* const to = sums + group * layer.sum_count() + outputs.begin * layer.ic;
    for (int64_t position = 0; position < kPositions; ++position)
      std::fill_n(to + position * layer.sum_position, outputs.size() * layer.ic, 0.0f);
    const Share pieces = cut.pieces_of(group);
    for (int64_t piece = pieces.begin; piece < pieces.end; ++piece)
      add_piece(Share(layer.grid.count, piece, cut.pieces), outputs, to);
  }

  void add_piece(const Share& tiles, const Share& outputs, float* to) const {
    const int64_t values = TransformedTiles::values(layer, room);
    float* const memory = job_scratch_of<float>(values + kPositions * layer.ic);
    const TransformedTiles b(layer, room, memory);
    for (int64_t t = 0; t < tiles.size(); ++t)
      b.transform(layer, p, tiles.begin + t, t, outputs, memory + values);
    for (int64_t position = 0; position < kPositions; ++position)
      b.add(layer, position, b.dy + position * b.dy_position, tiles.size(), outputs.size(),
            to + position * layer.sum_position);
  }
};

// With many: `tiles` of the layer at once.
struct TilePass {
  const Layer& layer;
  const F32Gradient& p;
  TransformedTiles b;
  Share tiles;
  float* sums;  // [positions, oc, ic]
};
struct TransformJobs {
  const TilePass& pass;
  int64_t count;

  void operator()(int64_t job) const {
    const Layer& layer = pass.layer;
    float* const patch = job_scratch_of<float>(kPositions * layer.ic);
    const Share share(pass.tiles.size(), job, count), outputs(layer.win.oc, 0, 1);
    for (int64_t t = share.begin; t < share.end; ++t)
      pass.b.transform(layer, pass.p, pass.tiles.begin + t, t, outputs, patch);
  }
};
struct PositionJobs {
  const TilePass& pass;
  int64_t shares;  // of the outputs

  void operator()(int64_t job) const {
    const Layer& layer = pass.layer;
    const int64_t position = job / shares;
    const Share outputs(layer.win.oc, job % shares, shares);
    float* const to = pass.sums + position * layer.sum_position + outputs.begin * layer.ic;
    if (pass.tiles.begin == 0) std::fill_n(to, outputs.size() * layer.ic, 0.0f);
    pass.b.add(layer, position, pass.b.dy + position * pass.b.dy_position + outputs.begin,
               pass.tiles.size(), outputs.size(), to);
  }
};

// Adds the groups, in order, and transforms them back: output channel o of dw.
struct AddJobs {
  const Layer& layer;
  int64_t groups;
  const F32Gradient& p;
  const float* sums;

  void operator()(int64_t o) const {
    for (int64_t i = 0; i < layer.ic; i += kLanes) {
      Vec half[F::kIn][3];
      for (int64_t y = 0; y < F::kIn; ++y) {
        Vec u[F::kIn];
        for (int64_t x = 0; x < F::kIn; ++x) u[x] = group_sum(y * F::kIn + x, o, i);
        F::weight_gradient(u, half[y]);
      }
      for (int64_t kx = 0; kx < 3; ++kx) {
        Vec u[F::kIn], dg[3];
        for (int64_t y = 0; y < F::kIn; ++y) u[y] = half[y][kx];
        F::weight_gradient(u, dg);
        for (int64_t ky = 0; ky < 3; ++ky) put(p.dw, o, ky, kx, i, dg[ky], layer.win.ic - i);
      }
    }
  }

  Vec group_sum(int64_t position, int64_t o, int64_t i) const {
    const float* const from = sums + position * layer.sum_position + o * layer.ic + i;
    Vec sum = {};
    for (int64_t g = 0; g < groups; ++g) sum += load(from + g * layer.sum_count());
    return sum;
  }
};

// Each adds up all tiles into the memory it returns: [groups, positions, oc, ic].
struct Sums {
  float* data;
  int64_t groups;
};
Sums sum_in_pieces(const Layer& layer, const F32Gradient& p) {
  constexpr int64_t kPieceBytes = 256 * 1024;  // transformed tiles
  const int64_t room = std::clamp<int64_t>(layer.tiles_in(kPieceBytes), 4, 64);
  const GradientCut cut((layer.grid.count + room - 1) / room, layer.sum_count() * 4, layer.win.oc,
                        kTile);
  float* const sums = shared_scratch_of<float>(cut.groups * layer.sum_count());
  parallel_jobs(cut.jobs, SumJobs{layer, cut, p, sums, room});
  return {sums, cut.groups};
}
Sums sum_in_passes(const Layer& layer, const F32Gradient& p) {
  constexpr int64_t kPassBytes = 8 * 1024 * 1024;  // transformed tiles, within a third cache
  const int64_t most = std::max<int64_t>(layer.tiles_in(kPassBytes), 128);
  const int64_t passes = (layer.grid.count + most - 1) / most;
  const int64_t room = (layer.grid.count + passes - 1) / passes;
  float* const sums =
      shared_scratch_of<float>(layer.sum_count() + TransformedTiles::values(layer, room));
  const int64_t shares = parts_for(kPositions, (layer.win.oc + kTile - 1) / kTile);
  for (int64_t i = 0; i < passes; ++i) {
    const Share tiles(layer.grid.count, i, passes);
    const TilePass pass{layer, p, TransformedTiles(layer, room, sums + layer.sum_count()), tiles,
                        sums};
    const int64_t jobs = std::min(tiles.size(), wanted_jobs());
    parallel_jobs(jobs, TransformJobs{pass, jobs});
    parallel_jobs(kPositions * shares, PositionJobs{pass, shares});
  }
  return {sums, 1};
}

}  // namespace

void winograd_weight_gradient(const Window& window, const F32Gradient& p) {
  const Layer layer(window);
  constexpr int64_t kSumBytes = 384 * 1024;  // beside a piece in a second cache
  const Sums sums =
      layer.sum_count() * 4 <= kSumBytes ? sum_in_pieces(layer, p) : sum_in_passes(layer, p);
  parallel_jobs(window.oc, AddJobs{layer, sums.groups, p, sums.data});
}

}  // namespace sextant::kernels::cpu::SEXTANT_SIMD
SEXTANT_SIMD_END();
