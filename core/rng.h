// SPDX-License-Identifier: Apache-2.0
// Random numbers that depend only on a seed and a position, never on thread or platform.
//
// Rng(seed, stream) starts an independent sequence. The loader gives each (epoch, sample) its own
// stream, so a result does not depend on which thread computes it. The generator is splitmix64
// (Steele, Lea, Flood 2014).
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>

namespace sextant {

inline uint64_t splitmix64(uint64_t x) {
  x += 0x9E3779B97F4A7C15ull;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

class Rng {
 public:
  explicit Rng(uint64_t seed, uint64_t stream = 0)
      : state_(splitmix64(seed) ^ splitmix64(stream + 0x632BE59BD9B4E019ull)) {}

  uint64_t next() { return splitmix64(state_++); }
  // In [0, 1), 53 bits.
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }
  double uniform(double low, double high) { return low + (high - low) * uniform(); }
  // In [0, n); n > 0.
  int64_t below(int64_t n) {
    __extension__ using U128 = unsigned __int128;
    return static_cast<int64_t>(static_cast<U128>(next()) * static_cast<uint64_t>(n) >> 64);
  }
  // Standard normal (Box-Muller).
  double normal() {
    const double u = 1.0 - uniform();
    return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * uniform());
  }

 private:
  uint64_t state_;
};

}  // namespace sextant
