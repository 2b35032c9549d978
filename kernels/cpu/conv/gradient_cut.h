// SPDX-License-Identifier: Apache-2.0
// How the sum over pixels of a weight gradient is cut: by the shape alone, so that results depend on
// nothing else.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/parallel.h"
#include "kernels/cpu/conv/cuts.h"

namespace sextant::kernels::cpu {

// `pieces` pieces of work (rows, tiles), each of which makes `bytes` of cache worth, are summed into
// `groups` buffers of `sum_bytes`, which are added in the end.
struct GradientCut {
  GradientCut(int64_t piece_count, int64_t sum_bytes, int64_t outputs, int64_t tile)
      : pieces(piece_count) {
    constexpr int64_t kSumBytes = 8 * 1024 * 1024;  // of all groups
    constexpr int64_t kGroups = 32;
    groups = std::clamp<int64_t>(kSumBytes / sum_bytes, 1, std::min(kGroups, pieces));
    shares = std::min(parts_for(groups, outputs), (outputs + tile - 1) / tile);
    jobs = groups * shares;
  }
  Share pieces_of(int64_t group) const { return {pieces, group, groups}; }

  int64_t pieces;
  int64_t groups;
  int64_t shares;  // of the output channels; they change no result
  int64_t jobs;
};

}  // namespace sextant::kernels::cpu
