// SPDX-License-Identifier: Apache-2.0
#include "peak.h"

#include <algorithm>

#include "core/parallel.h"
#include "kernels/cpu/isa.h"

namespace sextant::bench {
namespace {

using kernels::cpu::Isa;

constexpr int64_t kSteps = 4'000'000;

// Enough independent chains to hide a multiply-add's latency, in registers. The sum keeps them alive.
#define SEXTANT_CHAINS(name, lanes, chains, target)                          \
  target float name() {                                                      \
    using Vec = float __attribute__((vector_size(lanes * sizeof(float))));   \
    Vec acc[chains];                                                         \
    for (int i = 0; i < chains; ++i) acc[i] = Vec{} + static_cast<float>(i); \
    Vec a = Vec{} + 0.999f, b = Vec{} + 1e-3f;                               \
    for (int64_t s = 0; s < kSteps; ++s) {                                   \
      for (int i = 0; i < chains; ++i) acc[i] = acc[i] * a + b;              \
      asm volatile("" : "+x"(a), "+x"(b));                                   \
    }                                                                        \
    float sum = 0;                                                           \
    for (int i = 0; i < chains; ++i) sum += acc[i][0];                       \
    return sum;                                                              \
  }
#if defined(__x86_64__)
SEXTANT_CHAINS(chains4, 4, 12, )
SEXTANT_CHAINS(chains8, 8, 12, __attribute__((target("avx2,fma"))))
SEXTANT_CHAINS(chains16, 16, 14, __attribute__((target("avx512f,prefer-vector-width=512"))))
#endif
#undef SEXTANT_CHAINS

struct Loop {
  float (*run)();
  int lanes, chains;
};

Loop loop_of(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::kAvx512 || isa == Isa::kAvx512Vnni) return {chains16, 16, 14};
  if (isa != Isa::kPortable) return {chains8, 8, 12};
  return {chains4, 4, 12};
#else
  (void)isa;
  return {nullptr, 0, 0};
#endif
}

}  // namespace

double peak_gflops() {
  const Loop loop = loop_of(kernels::cpu::isa());
  if (!loop.run) return 0;
  double best = 0;
  for (int run = 0; run < 5; ++run) {
    const int64_t threads = num_threads();
    std::vector<float> sink(static_cast<size_t>(threads));
    const double start = now();
    parallel_jobs(threads, [&](int64_t t) { sink[static_cast<size_t>(t)] = loop.run(); });
    const auto work = static_cast<double>(2 * loop.lanes * loop.chains * kSteps * threads);
    best = std::max(best, work / (now() - start) * 1e-9);
  }
  return best;
}

}  // namespace sextant::bench
