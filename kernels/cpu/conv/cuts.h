// SPDX-License-Identifier: Apache-2.0
// How a direct convolution is cut into jobs. A result does not depend on it.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/parallel.h"
#include "kernels/cpu/conv/window.h"

namespace sextant::kernels::cpu {

// Enough jobs for each thread to have a few, so that none waits long for the last.
inline int64_t wanted_jobs() { return num_threads() == 1 ? 1 : 6 * num_threads(); }

// Into how many parts the blocks of channels are cut, where there would be too few jobs else.
inline int64_t parts_for(int64_t jobs, int64_t blocks) {
  return std::clamp<int64_t>((wanted_jobs() + jobs - 1) / jobs, 1, blocks);
}

// A range of a whole that is cut into `count` parts as even as may be.
struct Share {
  Share(int64_t whole, int64_t index, int64_t count)
      : begin(whole * index / count), end(whole * (index + 1) / count) {}
  int64_t begin, end;
  int64_t size() const { return end - begin; }
};

// A pointwise convolution: rows of pixels, each in chunks. Where all pixels of all images are evenly
// apart they are one row.
struct PointwiseCut {
  PointwiseCut(const Window& w, bool one_row, int64_t tile, int64_t channel_blocks)
      : blocks(channel_blocks) {
    constexpr int64_t kChunk = 96;  // pixels that share a block's weights in the first cache
    rows_of_image = one_row ? 1 : w.oh;
    width = one_row ? w.n * w.oh * w.ow : w.ow;
    const int64_t rows = one_row ? 1 : w.n * w.oh;
    int64_t chunk = kChunk;
    while (chunk > 2 * tile && rows * ((width + chunk - 1) / chunk) < wanted_jobs()) chunk /= 2;
    chunks = (width + chunk - 1) / chunk;
    parts = parts_for(rows * chunks, blocks);
    jobs = rows * chunks * parts;
  }
  int64_t image(int64_t job) const { return row(job) / rows_of_image; }
  int64_t row_of_image(int64_t job) const { return row(job) % rows_of_image; }
  Share pixels(int64_t job) const { return {width, job / parts % chunks, chunks}; }
  Share channels(int64_t job) const { return {blocks, job % parts, parts}; }

  int64_t blocks, rows_of_image, width, chunks, parts, jobs;

 private:
  int64_t row(int64_t job) const { return job / parts / chunks; }
};

// Any other: bands of output rows, whose input lines are copied.
struct BandCut {
  // line_bytes: of one input line. apart: each block of channels is a job of its own, and bands are
  // cut only as far as there would be too few of them.
  BandCut(const Window& w, int64_t line_bytes, int64_t channel_blocks, bool apart = false)
      : blocks(channel_blocks) {
    constexpr int64_t kLineBytes = 96 * 1024;  // of a band, beside weights in the second cache
    int64_t rows = std::max<int64_t>(1, (kLineBytes / line_bytes - w.kh) / w.stride + 1);
    rows = std::min(rows, w.n * w.oh * (apart ? blocks : 1) / wanted_jobs());
    rows = std::clamp<int64_t>(rows, 1, w.oh);
    height = w.oh;
    bands = (w.oh + rows - 1) / rows;
    parts = apart ? blocks : parts_for(w.n * bands, blocks);
    jobs = w.n * bands * parts;
  }
  int64_t image(int64_t job) const { return job / parts / bands; }
  Share rows(int64_t job) const { return {height, job / parts % bands, bands}; }
  Share channels(int64_t job) const { return {blocks, job % parts, parts}; }

  int64_t blocks, height, bands, parts, jobs;
};

}  // namespace sextant::kernels::cpu
