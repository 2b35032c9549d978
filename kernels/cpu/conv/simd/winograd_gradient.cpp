// SPDX-License-Identifier: Apache-2.0
// Weight gradients of 3x3 convolutions of stride 1 in f32 by F(4x4, 3x3): at each of the 36 positions
// of transformed tiles, a sum of outer products of dy's and x's channels; the sums are transformed
// back to 3x3.
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
constexpr int64_t kPieceBytes = 256 * 1024;  // transformed tiles of x and dy
constexpr int64_t kGap = 16;                 // between positions: see TileBuffers

struct Layer {
  explicit Layer(const Window& w)
      : win(w),
        grid(w, F::kOut),
        ic(whole_vectors(w.ic)),
        oc(whole_vectors(w.oc)),
        tiles(std::clamp<int64_t>(kPieceBytes / 4 / kPositions / (ic + oc), 4, 64)) {}
  int64_t pieces() const { return (grid.count + tiles - 1) / tiles; }
  int64_t x_position() const { return tiles * ic + kGap; }
  int64_t dy_position() const { return tiles * oc + kGap; }
  // Values of a buffer of sums, [positions, oc, ic].
  int64_t sum_count() const { return kPositions * win.oc * ic; }

  const Window& win;
  TileGrid grid;
  int64_t ic, oc;  // in whole vectors
  int64_t tiles;   // of a piece
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

struct SumJobs {
  const Layer& layer;
  const GradientCut& cut;
  const F32Gradient& p;
  float* sums;  // [groups, positions, oc, ic]

  void operator()(int64_t job) const {
    const Window& w = layer.win;
    const int64_t group = job / cut.shares;
    const Share outputs(w.oc, job % cut.shares, cut.shares);
    float* const to = sums + group * layer.sum_count() + outputs.begin * layer.ic;
    for (int64_t position = 0; position < kPositions; ++position)
      std::fill_n(to + position * w.oc * layer.ic, outputs.size() * layer.ic, 0.0f);
    const Share pieces = cut.pieces_of(group);
    for (int64_t piece = pieces.begin; piece < pieces.end; ++piece)
      add_piece(Share(layer.grid.count, piece, layer.pieces()), outputs, to);
  }

  void add_piece(const Share& tiles, const Share& outputs, float* to) const {
    const Window& w = layer.win;
    float* const x =
        job_scratch_of<float>(kPositions * (layer.x_position() + layer.dy_position() + layer.ic));
    float* const dy = x + kPositions * layer.x_position();
    float* const patch = dy + kPositions * layer.dy_position();
    for (int64_t t = 0; t < tiles.size(); ++t) {
      const int64_t index = tiles.begin + t;
      transform_tile<F>(w, p.x, layer.grid, index, patch, x + t * layer.ic, layer.x_position());
      const int64_t row = layer.grid.row(index), column = layer.grid.column(index);
      transform_output_gradient(p.dy.at(layer.grid.image(index), row, column) + outputs.begin,
                                p.dy.row, p.dy.pixel, w.oh - row, w.ow - column, outputs.size(),
                                dy + t * layer.oc, layer.dy_position());
    }
    for (int64_t position = 0; position < kPositions; ++position)
      for (int64_t b = 0; b < block_count(layer.ic); ++b) {
        const OuterSource s{dy + position * layer.dy_position(),
                            x + position * layer.x_position() + b * kBlock,
                            layer.oc,
                            0,
                            layer.ic,
                            0,
                            1,
                            tiles.size()};
        add_outers(s, outputs.size(), block_at(layer.ic, b).vecs(),
                   to + position * w.oc * layer.ic + b * kBlock, layer.ic);
      }
  }
};

// Adds the groups, in order, and transforms them back: output channel o of dw.
struct AddJobs {
  const Layer& layer;
  const GradientCut& cut;
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
        for (int64_t ky = 0; ky < 3; ++ky) put(o, ky, kx, i, dg[ky]);
      }
    }
  }

  Vec group_sum(int64_t position, int64_t o, int64_t i) const {
    const float* const from = sums + (position * layer.win.oc + o) * layer.ic + i;
    Vec sum = {};
    for (int64_t g = 0; g < cut.groups; ++g) sum += load(from + g * layer.sum_count());
    return sum;
  }
  void put(int64_t o, int64_t ky, int64_t kx, int64_t i, Vec v) const {
    float* const to = p.dw.data + o * p.dw.o + ky * p.dw.ky + kx * p.dw.kx + i * p.dw.i;
    if (p.dw.i == 1) return store_part(to, v, layer.win.ic - i);
    for (int64_t l = 0; l < kLanes && i + l < layer.win.ic; ++l) to[l * p.dw.i] = v[l];
  }
};

}  // namespace

void winograd_weight_gradient(const Window& window, const F32Gradient& p) {
  const Layer layer(window);
  const GradientCut cut(layer.pieces(), layer.sum_count() * 4, window.oc, kTile);
  float* const sums = shared_scratch_of<float>(cut.groups * layer.sum_count());
  parallel_jobs(cut.jobs, SumJobs{layer, cut, p, sums});
  parallel_jobs(window.oc, AddJobs{layer, cut, p, sums});
}

}  // namespace sextant::kernels::cpu::SEXTANT_SIMD
SEXTANT_SIMD_END();
