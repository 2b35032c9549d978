// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/conv/bias_gradient.h"

#include <algorithm>

#include "core/parallel.h"
#include "kernels/cpu/conv/scratch.h"

namespace sextant::kernels::cpu {

void bias_gradient(const float* dy, int64_t rows, int64_t channels, float* db) {
  constexpr int64_t kChunk = 1024;  // rows
  const int64_t chunks = (rows + kChunk - 1) / kChunk;
  auto* const sums = shared_scratch_of<double>(chunks * channels);
  parallel_jobs(chunks, [&](int64_t chunk) {
    double* const sum = sums + chunk * channels;
    std::fill_n(sum, channels, 0.0);
    for (int64_t r = chunk * kChunk; r < std::min(rows, (chunk + 1) * kChunk); ++r)
#pragma omp simd
      for (int64_t c = 0; c < channels; ++c) sum[c] += static_cast<double>(dy[r * channels + c]);
  });
  for (int64_t c = 0; c < channels; ++c) {
    double sum = 0;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) sum += sums[chunk * channels + c];
    db[c] = static_cast<float>(sum);
  }
}

}  // namespace sextant::kernels::cpu
