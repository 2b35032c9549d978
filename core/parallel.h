// parallel_for over OpenMP.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>

namespace sextant {

inline int num_threads() { return omp_get_max_threads(); }

// Calls body(begin, end) on disjoint chunks that cover [0, n), on several threads when n > grain.
// The split depends on n, grain and the number of threads. A body whose result must not depend on
// the split must not accumulate across its chunk. `body` must not throw.
template <class Body>
void parallel_for(int64_t n, int64_t grain, const Body& body) {
  if (n <= 0) return;
  const int64_t chunks = std::min<int64_t>(
      num_threads(), (n + std::max<int64_t>(grain, 1) - 1) / std::max<int64_t>(grain, 1));
  if (chunks <= 1 || omp_in_parallel()) {
    body(int64_t{0}, n);
    return;
  }
#pragma omp parallel for num_threads(static_cast <int>(chunks)) schedule(static, 1)
  for (int64_t c = 0; c < chunks; ++c) body(n * c / chunks, n * (c + 1) / chunks);
}

}  // namespace sextant
